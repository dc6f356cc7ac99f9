"""The classes a compression schedule may name, and the arguments each takes."""

from __future__ import annotations

import inspect
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator
from torch.optim import lr_scheduler


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class _Arguments(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RankedStructurePruner(_Arguments):
    """Arguments of `L1RankedStructureParameterPruner` and `L2RankedStructureParameterPruner` (SPEC 4.1)."""

    group_type: Literal["Filters", "3D", "Channels", "Rows"]
    desired_sparsity: float = Field(description="Fraction of filters or channels to remove, in [0, 1).")
    weights: Annotated[tuple[str, ...], BeforeValidator(_one_or_many), Field(min_length=1)]
    group_dependency: Literal["Leader"] | None = None

    @field_validator("desired_sparsity")
    @classmethod
    def _in_range(cls, sparsity: float) -> float:
        if not 0 <= sparsity < 1:  # NaN fails too
            raise ValueError("must be in [0, 1)")
        return sparsity

    @property
    def side(self) -> Literal["filters", "channels"]:
        """Which dimension of the weight is pruned: Distiller has two names for each."""
        return "filters" if self.group_type in {"Filters", "3D"} else "channels"


class Remover(_Arguments):
    """Arguments of the thinning extensions (SPEC 7); `arch` and `dataset` are Distiller's, and not used here."""

    thinning_func_str: Literal["remove_filters", "remove_channels"]
    arch: str = ""
    dataset: str = ""


PRUNERS: dict[str, type[RankedStructurePruner]] = {
    "L1RankedStructureParameterPruner": RankedStructurePruner,
    "L2RankedStructureParameterPruner": RankedStructurePruner,
}
EXTENSIONS: dict[str, type[Remover]] = dict.fromkeys(("FilterRemover", "ChannelRemover", "StructureRemover"), Remover)

# Schedulers whose arguments can stand in YAML; ReduceLROnPlateau has no sequence known in advance.
_NOT_IN_YAML = {"LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau", "LRScheduler"}
LR_SCHEDULERS: dict[str, type[lr_scheduler.LRScheduler]] = {
    name: cls
    for name, cls in vars(lr_scheduler).items()
    if inspect.isclass(cls) and issubclass(cls, lr_scheduler.LRScheduler) and name.strip("_") not in _NOT_IN_YAML
}
