"""Removing whole residual blocks: a class of our own, which Distiller does not have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, model_validator

from secateur.errors import did_you_mean
from secateur.methods.method import Method, Shapes
from secateur.methods.names import short_name

_KEEP = TypeAdapter(dict[str, int])


class ResidualBlockRemover(Method):
    """Removes the least important residual blocks of each stage, among those whose shortcut is the identity.

    Its arguments are names of the network's own: a stage (the module that directly holds the blocks) or one block,
    each with the number of such blocks that stay: ``{class: ResidualBlockRemover, layer1: 5, layer3.4: 0}``.
    """

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, int] = Field(init=False)

    @model_validator(mode="before")
    @classmethod
    def _are_counts(cls, arguments: Any) -> Any:
        if not arguments:
            raise ValueError("needs stages (or blocks) and how many blocks of each stay, such as layer1: 5")
        for name, count in arguments.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 0:
                raise ValueError(f"{name} must be a number of blocks that stay, 0 or more")
        return arguments

    @property
    def keep(self) -> Mapping[str, int]:
        """Stage or block -> how many residual blocks of it stay."""
        return {short_name(name): count for name, count in (self.model_extra or {}).items()}

    def problems(self, shapes: Shapes, model_name: str) -> list[str]:
        """Return which stages a model does not have."""
        parts = [short_name(name).split(".") for name in shapes]
        known = {".".join(names[:length]) for names in parts for length in range(1, len(names))}
        return [
            f"stage {name!r} is not in {model_name}.{did_you_mean(name, known)}"
            for name in self.keep
            if name not in known
        ]
