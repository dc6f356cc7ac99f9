"""Models of torchvision and timm, without their weights.

Heads that only serve training (GoogLeNet's and Inception's auxiliary classifiers) are left out.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any

from torch import nn

from secateur.errors import ModelError, did_you_mean


def create_torchvision_model(name: str, num_classes: int) -> nn.Module:
    """Make an image classifier of torchvision with fresh weights.

    Raises:
        ModelError: torchvision has none of this name.
    """
    # Imported where it is asked for: with it comes the whole of torch's compiler, which takes longer than torch itself.
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(f"unknown model 'torchvision:{name}'.{did_you_mean(name, known)}")
    builder = models.get_model_builder(name)
    options: dict[str, Any] = {"weights": None, "num_classes": num_classes}
    if name in _WITH_AUXILIARY_HEADS:
        options |= {"aux_logits": False, "init_weights": True}
    module: nn.Module = builder(**options)
    return module


def create_timm_model(name: str, num_classes: int) -> nn.Module:
    """Make an image classifier of timm with fresh weights.

    Raises:
        ModelError: timm is not installed, or has none of this name.
    """
    timm = _timm()
    if not timm.is_model(name):
        raise ModelError(f"unknown model 'timm:{name}'.{did_you_mean(name, timm.list_models())}")
    module: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
    return module


_WITH_AUXILIARY_HEADS = ("googlenet", "inception_v3")


@cache
def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as exc:
        raise ModelError(f"timm is not installed ({exc}): pip install 'secateur[timm]'.") from exc
    return timm
