"""Names of parameters, as a schedule and as a model write them."""

from __future__ import annotations

from collections.abc import Iterable


def short_name(name: str) -> str:
    """Return a name without the ``module`` that DataParallel puts somewhere into it (SPEC 3)."""
    return ".".join(part for part in name.split(".") if part != "module")


def own_names(names: Iterable[str], own: Iterable[str]) -> dict[str, str | None]:
    """Return the model's own name of each of `names`, if it has one; ``module`` is optional on both sides (SPEC 3)."""
    by_short_name = {short_name(name): name for name in own}
    return {name: by_short_name.get(short_name(name)) for name in names}


def layer_of(parameter: str) -> str:
    """Return the module that owns a parameter: ``layer1.0.conv1`` for ``layer1.0.conv1.weight``."""
    return parameter.rpartition(".")[0]
