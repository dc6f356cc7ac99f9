"""Make a model from the name a study gives it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from secateur.errors import ModelError, did_you_mean
from secateur.models.resnet_cifar import ResNetCifar
from secateur.models.vgg_cifar import VGGCifar
from secateur.models.zoos import create_timm_model, create_torchvision_model
from secateur.references import resolve

_CIFAR: dict[str, Callable[[int], nn.Module]] = {
    **{f"resnet{6 * num_blocks + 2}_cifar": partial(ResNetCifar, num_blocks) for num_blocks in (3, 5, 7, 9, 18)},
    **{
        f"vgg{num_layers}{suffix}_cifar": partial(VGGCifar, num_layers, has_norms=bool(suffix))
        for num_layers in (11, 16)
        for suffix in ("", "_bn")
    },
}

_ZOOS: dict[str, Callable[[str, int], nn.Module]] = {
    "torchvision": create_torchvision_model,
    "timm": create_timm_model,
}


def known_models() -> tuple[str, ...]:
    """Return the names `create_model` knows, besides ``torchvision:``, ``timm:`` and ``python:``."""
    return tuple(_CIFAR)


def default_num_classes(name: str) -> int:
    """Return how many classes a model is usually for: ImageNet's 1000 in a zoo, else CIFAR's 10."""
    return 1000 if _is_in_a_zoo(name) else 10


def default_input_size(name: str) -> int:
    """Return the height and width in pixels that a model is usually fed with."""
    return 224 if _is_in_a_zoo(name) else 32


def create_model(name: str, num_classes: int) -> nn.Module:
    """Make a model with fresh weights (from torch's random generator).

    Args:
        name: A known name, ``torchvision:NAME``, ``timm:NAME``, or ``python:package.module:factory``, called as
            ``factory(num_classes)``.
        num_classes: Width of the logits.

    Raises:
        ModelError: There is no such model, or the factory makes none.
    """
    if name.startswith("python:"):
        return _own_model(name, num_classes)
    if _is_in_a_zoo(name):
        zoo, _, name_there = name.partition(":")
        return _ZOOS[zoo](name_there, num_classes)
    if name not in _CIFAR:
        raise ModelError(f"unknown model {name!r}.{did_you_mean(name, _CIFAR)}")
    return _CIFAR[name](num_classes)


def _is_in_a_zoo(name: str) -> bool:
    return name.partition(":")[0] in _ZOOS and ":" in name


def _own_model(name: str, num_classes: int) -> nn.Module:
    factory = resolve(name, ModelError)
    try:
        model = factory(num_classes)
    except Exception as exc:
        raise ModelError(f"model {name!r}: factory({num_classes}) failed: {type(exc).__name__}: {exc}.") from exc
    if not isinstance(model, nn.Module):
        raise ModelError(f"model {name!r}: expected the factory to return a torch.nn.Module, got {type(model)!r}.")
    return model
