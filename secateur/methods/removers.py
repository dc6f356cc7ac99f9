"""Thinning extensions: when what is silent is removed for good (SPEC 7)."""

from __future__ import annotations

from typing import Literal

from secateur.methods.method import Method
from secateur.methods.ranking import Side

_SIDES: dict[str, tuple[Side, ...]] = {
    "remove_filters": ("filters",),
    "remove_channels": ("channels",),
    "contract_model": ("filters", "channels"),
}


class Remover(Method):
    """`FilterRemover`, `ChannelRemover` and `StructureRemover`: three names of one class.

    `arch` and `dataset` are Distiller's: it needs them to make an input; here the model's own is used.
    """

    thinning_func_str: Literal["remove_filters", "remove_channels", "contract_model"]
    arch: str = ""
    dataset: str = ""

    @property
    def sides(self) -> tuple[Side, ...]:
        """What is removed, in this order."""
        return _SIDES[self.thinning_func_str]
