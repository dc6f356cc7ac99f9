"""Names of parameters, as a schedule and as a model write them."""

from __future__ import annotations

from collections.abc import Iterable


def short_name(name: str) -> str:
    """Return a name without the ``module`` that DataParallel puts somewhere into it (SPEC 3)."""
    return ".".join(part for part in name.split(".") if part != "module")


def resolve_name(name: str, names: Iterable[str]) -> str | None:
    """Return the model's own name of a parameter; ``module`` is optional on both sides (SPEC 3)."""
    return {short_name(own): own for own in names}.get(short_name(name))


def layer_of(parameter: str) -> str:
    """Return the module that owns a parameter: ``layer1.0.conv1`` for ``layer1.0.conv1.weight``."""
    return parameter.rpartition(".")[0]
