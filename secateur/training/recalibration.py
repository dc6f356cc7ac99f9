"""Batch normalisation's statistics, computed anew for a network that has been pruned."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Generator, nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.training.batch_norm import fast_batch_norm_on
from secateur.training.batches import Images, Normalization, fastest_memory_format, normalized
from secateur.training.settings import Device

_BATCH_SIZE = 128
_SEED = 0
"""Which images are taken never depends on a study's seed: results could not be compared."""


def recalibrate_bn(
    model: nn.Module, images: Images, normalize: Normalization, *, num_images: int = 2560, device: Device = "cpu"
) -> None:
    """Set the running mean and variance of every batch normalisation to those of a fixed part of `images`.

    A pruned network's layers see other inputs than those whose statistics they remember (Li et al. 2020, EagleEye,
    sec. 3.3). The images are not augmented, no weight changes, and no layer but these is in training mode meanwhile.

    Args:
        model: Changed in place; moved to `device`, its mode left as it was.
        images: Training images, never those that validate.
        normalize: What the network was trained with.
        num_images: How many are drawn; all, if there are fewer.
        device: Where to compute.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    if not norms:
        return
    drawn_N = torch.randperm(len(images.labels_N), generator=Generator().manual_seed(_SEED))[:num_images]
    # Batches count alike: a small last one would count too much.
    parts = torch.split(drawn_N, _BATCH_SIZE)
    parts = parts[:-1] if len(parts) > 1 and len(parts[-1]) < _BATCH_SIZE else parts
    modes = {module: module.training for module in model.modules()}
    momenta = [norm.momentum for norm in norms]
    model.to(device).eval()
    layout = fastest_memory_format(model, images, normalize, device)
    try:
        for fast in dict.fromkeys((fast_batch_norm_on(device), nullcontext)):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # a plain average over all batches
                norm.train()
            with torch.no_grad():
                for batch_NHWC in images.batches(parts):
                    with fast():
                        model(normalized(batch_NHWC.to(device), normalize).contiguous(memory_format=layout))
            if all(bool(norm.running_mean.isfinite().all()) for norm in norms if norm.running_mean is not None):
                break
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, is_training in modes.items():
            module.training = is_training
