"""Pruners that rank filters, channels or blocks by their weights (SPEC 4.1 to 4.4)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from secateur.methods.method import Level, Method, Moment, Names, Pruner, Shapes, check_numbers
from secateur.methods.names import own_names
from secateur.methods.ranking import (
    Norm,
    Side,
    along,
    block_norms,
    blocks_mask,
    count_removed,
    rounded,
    structure_norms,
    without_smallest,
)
from secateur.methods.sparsity import Gradual, OneShot

_FILTERS = frozenset({"Filters", "3D"})


class Blocks(Method):
    """`kwargs` of a pruner of blocks."""

    block_shape: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)], Literal[1], Literal[1]]
    """Repetitions, depth, height, width."""


class RankedStructurePruner(Pruner):
    """Removes the weakest structures of each weight, or of the leader's all the same."""

    norm: ClassVar[Norm]

    group_type: Literal["Filters", "3D", "Channels", "Rows", "Blocks"]
    weights: Names
    group_dependency: Literal["Leader"] | None = None
    kwargs: Blocks | None = None
    round_to: Annotated[int, Field(ge=1)] = 1
    """How many stay is a multiple of it, at least as many as asked (not of Distiller): devices have preferences."""

    @model_validator(mode="after")
    def _has_a_block_shape(self) -> Self:
        if (self.group_type == "Blocks") != (self.kwargs is not None):
            raise ValueError("kwargs: {block_shape: [r, d, 1, 1]} belongs to 'group_type: Blocks', and only to it")
        if self.group_type == "Blocks" and self.group_dependency is not None:
            raise ValueError("'group_dependency: Leader' is for filters and channels, not for blocks")
        return self

    @property
    def side(self) -> Side:
        """Which dimension of the weight is pruned: Distiller has two names for each."""
        return "filters" if self.group_type in _FILTERS else "channels"

    @abstractmethod
    def sparsity(self, moment: Moment) -> float:
        """Return the fraction to remove now."""

    @property
    @abstractmethod
    def removes_structures(self) -> bool:
        """Whether anything goes at all, in the end."""

    def magnitudes(self, weight: Tensor, moment: Moment) -> Tensor:  # noqa: ARG002
        """Return the size of each structure of a weight."""
        if self.kwargs is not None:
            return block_norms(weight, self.kwargs.block_shape, self.norm)
        return structure_norms(weight, self.side, self.norm)

    @override
    def masks(self, moment: Moment) -> dict[str, Tensor]:
        leaders = self._keep(self.weights[0], moment) if self.group_dependency == "Leader" else None
        masks = {}
        for name, weight in moment.weights.items():
            if name in self.weights:
                keep = self._keep(name, moment) if leaders is None else leaders
                if not keep.all():  # nothing to remove: an older mask stays
                    masks[name] = self._full(keep, weight)
        return masks

    def _keep(self, name: str, moment: Moment) -> Tensor:
        magnitudes = self.magnitudes(moment.weights[name], moment)
        check_numbers(name, magnitudes)
        num_structures = magnitudes.numel()
        count = rounded(count_removed(num_structures, self.sparsity(moment)), num_structures, self.round_to)
        return without_smallest(magnitudes, count)

    def _full(self, keep: Tensor, weight: Tensor) -> Tensor:
        if self.kwargs is not None:
            return blocks_mask(keep, weight, self.kwargs.block_shape)
        return along(keep, 0 if self.side == "filters" else 1, weight)

    @override
    def problems(self, shapes: Shapes, model_name: str) -> list[str]:
        problems = super().problems(shapes, model_name)
        if self.group_dependency == "Leader":
            dim = 0 if self.side == "filters" else 1
            own = own_names(self.weights, shapes)
            sizes = {name: shapes[o][dim] for name, o in own.items() if o is not None and len(shapes[o]) > dim}
            if len(set(sizes.values())) > 1:
                problems.append(
                    f"'group_dependency: Leader' needs the same number of {self.side} in every layer, got {sizes}."
                )
        return problems

    @override
    def shape_problem(self, name: str, shape: tuple[int, ...]) -> str | None:
        if self.kwargs is not None:
            repetitions, depth = self.kwargs.block_shape[:2]
            if len(shape) != 4:
                return "Blocks needs a convolution's weight."
            blocks, of = (shape[0], "filters") if depth == 1 else (shape[0] * shape[1], "kernels")
            if blocks % (repetitions * depth):
                return f"its {blocks} {of} cannot be divided into blocks of {repetitions * depth}."
            return None
        if len(shape) == 4 or (len(shape) == 2 and self.side == "channels"):
            return None
        needed = "a convolution's weight" if self.side == "filters" else "the weight of a convolution or a linear layer"
        return f"{self.group_type} needs {needed}."


class _Noisy(OneShot, RankedStructurePruner):
    """Arguments that only the one-shot form has; two of them work in one way only (SPEC 4.1)."""

    noise: Level = 0.0
    """Probability with which each magnitude of a weight is multiplied by a sample of N(0, 1)."""
    group_size: Literal[1] = 1
    rounding_fn: Literal["floor"] = "floor"

    @override
    def magnitudes(self, weight: Tensor, moment: Moment) -> Tensor:
        magnitudes = super().magnitudes(weight, moment)
        if self.noise > 0 and moment.chance.python.uniform(0, 1) <= self.noise:
            samples = torch.randn(magnitudes.shape, generator=moment.chance.torch).to(magnitudes)
            # Distiller ranks what may have become negative; the order is all that counts.
            magnitudes = (magnitudes * samples).flatten().argsort().argsort().view(magnitudes.shape) + 1.0
        return magnitudes


class L1RankedStructures(_Noisy):
    """`L1RankedStructureParameterPruner`."""

    norm: ClassVar[Norm] = "L1"


class L2RankedStructures(_Noisy):
    """`L2RankedStructureParameterPruner`."""

    norm: ClassVar[Norm] = "L2"


class RandomLevelStructures(RankedStructurePruner):
    """`RandomLevelStructureParameterPruner`: L1-ranked, at a sparsity drawn anew for every weight and every call."""

    norm: ClassVar[Norm] = "L1"

    sparsity_range: tuple[Level, Level]

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.sparsity_range[0] > self.sparsity_range[1]:
            raise ValueError(f"sparsity_range must go from low to high, got {list(self.sparsity_range)}")
        return self

    @property
    @override
    def removes_structures(self) -> bool:
        return self.sparsity_range[1] > 0

    @override
    def sparsity(self, moment: Moment) -> float:
        return moment.chance.python.uniform(*self.sparsity_range)


class GradualL1RankedStructures(Gradual, RankedStructurePruner):
    """`L1RankedStructureParameterPruner_AGP`."""

    norm: ClassVar[Norm] = "L1"


class GradualL2RankedStructures(Gradual, RankedStructurePruner):
    """`L2RankedStructureParameterPruner_AGP`."""

    norm: ClassVar[Norm] = "L2"
