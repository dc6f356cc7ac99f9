"""How a network is trained, and in which arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["f32", "bf16", "f16"]
Device = Literal["cpu", "cuda"]
LearningRateCurve = Literal["schedule", "cosine", "one_cycle", "step"]

_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """SGD with momentum. Numbers and texts only: `dataclasses.asdict` gives JSON."""

    epochs: int
    """0 trains nothing: the network is only evaluated."""
    lr: float
    """Initial learning rate; of a curve the highest."""
    lr_curve: LearningRateCurve = "schedule"
    """schedule: constant unless callbacks change it. The others: see `learning_rate`."""
    warmup_epochs: float = 0.0
    """The learning rate of a curve rises linearly for so long."""
    batch_size: int = 128
    """Images an optimizer step; the last minibatch of an epoch may be smaller."""
    accumulation: int = 1
    """Parts into which a minibatch is divided, whose gradients are added up: less memory, the same step."""
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    decay_vectors: bool = True
    """Weight decay also acts on biases and on batch normalisation's scale and shift, as Distiller's does."""
    label_smoothing: float = 0.0
    """Szegedy et al. 2016, sec. 7."""
    ema_decay: float = 0.0
    """0: none; else an exponential moving average of the weights is what is evaluated and what remains."""
    distillation_weight: float = 0.0
    """Share of the loss that compares with the teacher's logits (Hinton et al. 2015); 0: no teacher."""
    temperature: float = 4.0
    """Of distillation."""
    max_shift: int = 4
    """Images are moved by up to so many pixels, black fills the gap; 0: not at all."""
    flip: bool = True
    """Half of the images are mirrored, anew in each epoch."""
    cutout: int = 0
    """Side, in pixels, of a black square at a random place of each image (DeVries and Taylor 2017); 0: none."""
    seed: int = 0
    """Of the order of images, their augmentation and whatever the network draws."""
    deterministic: bool = False
    """Refuse what does not compute the same twice. On a CPU all does, with the same number of threads."""
    device: Device = "cpu"
    precision: Precision = "f32"
    """Of forward and backward pass; weights, statistics and every evaluation stay f32."""


def fastest_precision(device: Device) -> Precision:
    """Return the 16 bits that the hardware multiplies natively, else f32 (emulated bf16 is slower than f32)."""
    if device == "cuda":
        if not torch.cuda.is_available() or (capability := torch.cuda.get_device_capability()) < (7, 0):
            return "f32"
        return "bf16" if capability >= (8, 0) else "f16"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "f32"  # torch >= 2.6 has no public name for it


def autocast(device: str, precision: Precision) -> torch.autocast:
    """Return a context that computes in `precision`."""
    return torch.autocast(device, dtype=_DTYPES[precision], enabled=precision != "f32")
