"""Make a model from the name a study gives it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from secateur.errors import ModelError, did_you_mean
from secateur.models.resnet_cifar import ResNetCifar
from secateur.references import resolve

_MODELS: dict[str, Callable[[int], nn.Module]] = {
    "resnet20_cifar": partial(ResNetCifar, 3),
    "resnet56_cifar": partial(ResNetCifar, 9),
}


def known_models() -> tuple[str, ...]:
    """Return the names `create_model` knows, besides ``python:package.module:factory``."""
    return tuple(_MODELS)


def create_model(name: str, num_classes: int) -> nn.Module:
    """Make a model with fresh weights (from torch's random generator).

    Args:
        name: A known name, or ``python:package.module:factory``, called as ``factory(num_classes)``.
        num_classes: Width of the logits.

    Raises:
        ModelError: There is no such model, or the factory makes none.
    """
    if name.startswith("python:"):
        factory = resolve(name, ModelError)
        try:
            model = factory(num_classes)
        except Exception as exc:
            raise ModelError(f"model {name!r}: factory({num_classes}) failed: {type(exc).__name__}: {exc}.") from exc
        if not isinstance(model, nn.Module):
            raise ModelError(f"model {name!r}: expected the factory to return a torch.nn.Module, got {type(model)!r}.")
        return model
    if name not in _MODELS:
        raise ModelError(f"unknown model {name!r}.{did_you_mean(name, _MODELS)}")
    return _MODELS[name](num_classes)
