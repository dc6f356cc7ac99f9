"""How a network is trained, and in which arithmetic."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

Precision = Literal["f32", "bf16"]
Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """SGD with momentum; the learning rate is constant unless a callback changes it."""

    epochs: int
    """0 trains nothing: the network is only evaluated."""
    lr: float
    """Initial learning rate."""
    batch_size: int = 128
    """The last minibatch of an epoch may be smaller."""
    momentum: float = 0.9
    weight_decay: float = 1e-4
    """Applied to every parameter, as Distiller does."""
    max_shift: int = 4
    """Images are moved by up to so many pixels, black fills the gap; 0: not at all."""
    flip: bool = True
    """Half of the images are mirrored, anew in each epoch."""
    seed: int = 0
    """Of the order of images, their augmentation and whatever the network draws."""
    device: Device = "cpu"
    precision: Precision = "f32"
    """Of forward and backward pass; weights, statistics and every evaluation stay f32."""


def fastest_precision(device: Device) -> Precision:
    """Return bf16 where the hardware multiplies it natively, else f32 (emulated bf16 is slower than f32)."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0) else "f32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "f32"  # torch >= 2.6 has no public name for it


def autocast(device: str, precision: Precision) -> torch.autocast:
    """Return a context that computes in `precision`."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")
