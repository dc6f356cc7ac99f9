"""Pruners that rank filters by something else than their weights (SPEC 4.5)."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, Literal

import torch
from torch import Tensor
from typing_extensions import override

from secateur.errors import TrainingError
from secateur.methods.method import Activations, Moment, Names, Pruner, check_numbers
from secateur.methods.names import layer_of
from secateur.methods.ranking import Side, along, count_removed
from secateur.methods.sparsity import Gradual, OneShot


class FilterPruner(Pruner):
    """Removes exactly the asked number of filters of each convolution."""

    group_type: Literal["Filters", "3D"]
    weights: Names
    group_dependency: None = None
    """Distiller's own cannot do `Leader` here."""

    side: ClassVar[Side] = "filters"

    @property
    @abstractmethod
    def removes_structures(self) -> bool:
        """Whether anything goes at all, in the end."""

    @abstractmethod
    def sparsity(self, moment: Moment) -> float:
        """Return the fraction to remove now."""

    @abstractmethod
    def ranking(self, name: str, weight_OIHW: Tensor, moment: Moment) -> Tensor:
        """Return indices of filters, in the order in which they go."""

    @override
    def masks(self, moment: Moment) -> dict[str, Tensor]:
        masks = {}
        for name, weight_OIHW in moment.weights.items():
            count = count_removed(len(weight_OIHW), self.sparsity(moment)) if name in self.weights else 0
            if count:
                keep = torch.ones(len(weight_OIHW), dtype=torch.bool, device=weight_OIHW.device)
                keep[self.ranking(name, weight_OIHW, moment)[:count]] = False
                masks[name] = along(keep, 0, weight_OIHW)
        return masks

    @override
    def shape_problem(self, name: str, shape: tuple[int, ...]) -> str | None:
        return None if len(shape) == 4 else f"{self.group_type} needs a convolution's weight."


class _Random(FilterPruner):
    @override
    def ranking(self, name: str, weight_OIHW: Tensor, moment: Moment) -> Tensor:
        return torch.from_numpy(moment.chance.numpy.permutation(len(weight_OIHW))).flip(0)  # Distiller keeps the first


class _ByGradient(FilterPruner):
    """By the sum of weight times gradient (Molchanov et al. 2017, sec. 2.2), signed: the most negative goes first."""

    needs: ClassVar[frozenset[str]] = frozenset({"gradients"})

    @override
    def ranking(self, name: str, weight_OIHW: Tensor, moment: Moment) -> Tensor:
        if name not in moment.gradients:
            raise TrainingError(f"{name!r} cannot be ranked by gradients before the first backward pass.")
        criterion = (weight_OIHW * moment.gradients[name]).double().flatten(1).sum(1)
        check_numbers(name, criterion)
        return criterion.argsort(stable=True)


class _ByActivation(FilterPruner):
    needs: ClassVar[frozenset[str]] = frozenset({"activations"})

    @override
    def ranking(self, name: str, weight_OIHW: Tensor, moment: Moment) -> Tensor:
        if (activations := moment.activations.get(layer_of(name))) is None:
            raise TrainingError(f"{name!r} cannot be ranked by activations before images have passed through it.")
        criterion = self.criterion(activations).to(weight_OIHW.device)
        check_numbers(name, criterion)
        return criterion.argsort(stable=True)

    @abstractmethod
    def criterion(self, activations: Activations) -> Tensor:
        """Return one number a filter; the lowest go."""


class _ByMeanActivation(_ByActivation):
    """The lowest means go; Distiller removes the highest, against its own documentation."""

    @override
    def criterion(self, activations: Activations) -> Tensor:
        return activations.mean


class _ByZeros(_ByActivation):
    """Those that are zero most often go (Hu et al. 2016)."""

    @override
    def criterion(self, activations: Activations) -> Tensor:
        return -activations.zeros_percent


class RandomFilters(OneShot, _Random):
    """`RandomRankedFilterPruner`."""


class GradualRandomFilters(Gradual, _Random):
    """`RandomRankedFilterPruner_AGP`."""


class GradientFilters(OneShot, _ByGradient):
    """`GradientRankedFilterPruner`."""


class GradualGradientFilters(Gradual, _ByGradient):
    """`GradientRankedFilterPruner_AGP`."""


class MeanActivationFilters(OneShot, _ByMeanActivation):
    """`ActivationMeanRankedFilterPruner`."""


class GradualMeanActivationFilters(Gradual, _ByMeanActivation):
    """`ActivationMeanRankedFilterPruner_AGP`."""


class ApozFilters(OneShot, _ByZeros):
    """`ActivationAPoZRankedFilterPruner`."""


class GradualApozFilters(Gradual, _ByZeros):
    """`ActivationAPoZRankedFilterPruner_AGP`."""
