"""Regularizers: what is added to the loss, and what is set to zero after a step (SPEC 9)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Annotated, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from secateur.methods.grouping import Criterion, group_mask, l2_norms, structure_problem
from secateur.methods.method import Amount, ParameterMethod

Group = Literal["2D", "Rows", "Cols", "Rows+Cols", "Cols+Rows", "Channels", "Filters", "3D", "4D"]
"""A structure, the rows and the columns of a linear layer, or a convolution as a whole."""

_UNTHRESHOLDED = {"4D", "Rows+Cols", "Cols+Rows"}
_UNDER_THE_ROOT = 1e-8
"""What Distiller adds to the sum of squares of channels, and only of them."""


class Regularizer(ParameterMethod):
    """Draws weights towards zero while training."""

    names_field: ClassVar[str] = "reg_regims"

    def loss(self, weights: Mapping[str, Tensor]) -> Tensor:
        """Return what is added to the loss: a scalar."""
        terms = (self.term(name, weight) for name, weight in weights.items() if name in self.named)
        return sum(terms, torch.zeros(()))

    @abstractmethod
    def term(self, name: str, weight: Tensor) -> Tensor:
        """Return one parameter's part of the loss."""

    @property
    def has_threshold(self) -> bool:
        """Whether weights are set to zero after a step."""
        return False

    def threshold_masks(self, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:  # noqa: ARG002
        """Yield each parameter's mask: bool, of its shape, False = small enough to be set to zero now.

        The threshold is the strength: Distiller has one number for both.
        """
        yield from ()


class L1Regularizer(Regularizer):
    """`L1Regularizer`: strength times the sum of absolute values."""

    reg_regims: Annotated[dict[str, Amount], Field(min_length=1)]
    """Parameter -> strength."""
    threshold_criteria: Criterion | None = None
    """Whether to set weights to zero; which one makes no difference."""

    @override
    def term(self, name: str, weight: Tensor) -> Tensor:
        return self.reg_regims[name] * weight.abs().sum()

    @property
    @override
    def has_threshold(self) -> bool:
        return self.threshold_criteria is not None

    @override
    def threshold_masks(self, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for name, strength in self.reg_regims.items():
            yield name, weights[name].detach().abs() > strength


class GroupLassoRegularizer(Regularizer):
    """`GroupLassoRegularizer`: strength times the sum of the structures' L2 norms (Wen et al. 2016, eq. 3)."""

    reg_regims: Annotated[dict[str, tuple[Amount, Group]], Field(min_length=1)]
    """Parameter -> (strength, group)."""
    threshold_criteria: Criterion | None = None

    @model_validator(mode="after")
    def _can_be_thresholded(self) -> Self:
        for name, (_, group) in self.reg_regims.items():
            if self.has_threshold and group in _UNTHRESHOLDED:
                raise ValueError(f"threshold_criteria cannot be applied to {group} ({name!r}): leave one of them out")
        return self

    @override
    def term(self, name: str, weight: Tensor) -> Tensor:
        strength, group = self.reg_regims[name]
        if group == "Channels":
            return strength * (weight.square().sum((0, 2, 3)) + _UNDER_THE_ROOT).sqrt().sum()
        return strength * torch.stack([l2_norms(weight, part).sum() for part in group.split("+")]).sum()

    @property
    @override
    def has_threshold(self) -> bool:
        return self.threshold_criteria is not None

    @override
    def threshold_masks(self, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        for name, (strength, group) in self.reg_regims.items():
            assert self.threshold_criteria is not None
            yield name, group_mask(weights[name], group, strength, self.threshold_criteria)

    @override
    def shape_problem(self, name: str, shape: tuple[int, ...]) -> str | None:
        return structure_problem(self.reg_regims[name][1] if name in self.reg_regims else "Filters", shape)


class GroupVarianceRegularizer(Regularizer):
    """`GroupVarianceRegularizer`: strength divided by the variance of the channels' L2 norms."""

    reg_regims: Annotated[dict[str, tuple[Amount, Literal["Channels"]]], Field(min_length=1)]

    @override
    def term(self, name: str, weight: Tensor) -> Tensor:
        strength, structure = self.reg_regims[name]
        return strength / l2_norms(weight, structure).var()

    @override
    def shape_problem(self, name: str, shape: tuple[int, ...]) -> str | None:
        if len(shape) == 4 and shape[1] < 2:
            return "a variance needs two channels."
        return structure_problem("Channels", shape)
