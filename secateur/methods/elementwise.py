"""Pruners of single weights (SPEC 5 and 6)."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from typing_extensions import override

from secateur.methods.grouping import Criterion, Structure, group_mask, structure_problem
from secateur.methods.method import EVERY_OTHER, Amount, Epochs, Level, Moment, Names, Pruner, check_numbers
from secateur.methods.ranking import without_smallest
from secateur.methods.sparsity import Gradual

Levels = Annotated[dict[str, Level], Field(min_length=1)]
Amounts = Annotated[dict[str, Amount], Field(min_length=1)]


class _ElementPruner(Pruner):
    """Decides for each parameter on its own."""

    @override
    def masks(self, moment: Moment) -> dict[str, Tensor]:
        masks = {}
        for name, weight in moment.weights.items():
            if self._acts_on(name):
                check_numbers(name, weight)
                mask = self.mask(name, weight, moment)
                if mask is not None:
                    masks[name] = mask
        return masks

    def _acts_on(self, name: str) -> bool:
        return name in self.named or (self.takes_every_other and EVERY_OTHER in self.named)

    @abstractmethod
    def mask(self, name: str, weight: Tensor, moment: Moment) -> Tensor | None:
        """Return the mask of one parameter, or None to leave it alone."""


def _level_mask(weight: Tensor, level: float) -> Tensor | None:
    """Remove the smallest weights (Han et al. 2015, sec. 3): ``int(level * n)`` of them, or None if that is none."""
    count = int(level * weight.numel())
    return without_smallest(weight.abs(), count) if count else None


class MagnitudePruner(_ElementPruner):
    """`MagnitudeParameterPruner`: weights up to a threshold go, in every parameter of the network."""

    names_field: ClassVar[str] = "thresholds"
    takes_every_other: ClassVar[bool] = True

    thresholds: Amounts

    @model_validator(mode="after")
    def _has_a_default(self) -> Self:
        if EVERY_OTHER not in self.thresholds:
            raise ValueError("thresholds need an entry '*' for all other parameters")
        return self

    @override
    def mask(self, name: str, weight: Tensor, moment: Moment) -> Tensor:
        return weight.abs() > self.thresholds.get(name, self.thresholds[EVERY_OTHER])


class LevelPruner(_ElementPruner):
    """`SparsityLevelParameterPruner`: a fraction of each parameter goes."""

    names_field: ClassVar[str] = "levels"
    takes_every_other: ClassVar[bool] = True

    levels: Levels

    @override
    def mask(self, name: str, weight: Tensor, moment: Moment) -> Tensor | None:
        return _level_mask(weight, self.levels.get(name, self.levels.get(EVERY_OTHER, 0.0)))


class GradualPruner(Gradual, _ElementPruner):
    """`AutomatedGradualPruner`: a growing fraction of each parameter goes (Zhu and Gupta 2017)."""

    weights: Names

    @override
    def mask(self, name: str, weight: Tensor, moment: Moment) -> Tensor | None:
        return _level_mask(weight, self.sparsity(moment))


class SensitivityPruner(_ElementPruner):
    """`SensitivityPruner`: the threshold is a multiple of the standard deviation at first sight (Han et al. 2015)."""

    names_field: ClassVar[str] = "sensitivities"
    takes_every_other: ClassVar[bool] = True

    sensitivities: Amounts

    @override
    def mask(self, name: str, weight: Tensor, moment: Moment) -> Tensor:
        sensitivity = self.sensitivities.get(name, self.sensitivities.get(EVERY_OTHER, 0.0))
        deviation = moment.memory.setdefault(name, weight.std() if weight.numel() > 1 else weight.new_zeros(()))
        mask: Tensor = weight.abs() > sensitivity * deviation.item()
        return mask


class SplicingPruner(_ElementPruner):
    """`SplicingPruner`: weights below a low threshold go, above a high one they come back (Guo et al. 2016, eq. 3)."""

    names_field: ClassVar[str] = "sensitivities"
    takes_every_other: ClassVar[bool] = True

    sensitivities: Amounts
    low_thresh_mult: Amount
    hi_thresh_mult: Amount
    sensitivity_multiplier: Amount = 0.0
    """How much sensitivities grow with every epoch."""

    @model_validator(mode="after")
    def _is_low_below_high(self) -> Self:
        if self.low_thresh_mult > self.hi_thresh_mult:
            raise ValueError(
                "low_thresh_mult must not be above hi_thresh_mult, got "
                f"{self.low_thresh_mult} and {self.hi_thresh_mult}"
            )
        return self

    @override
    def mask(self, name: str, weight: Tensor, moment: Moment) -> Tensor:
        sensitivity = self.sensitivities.get(name, self.sensitivities.get(EVERY_OTHER, 0.0))
        if self.sensitivity_multiplier > 0:
            sensitivity *= (moment.epoch - moment.epochs[0]) * self.sensitivity_multiplier + 1
        magnitudes = weight.abs()
        spread = magnitudes.std() if weight.numel() > 1 else weight.new_zeros(())
        mean, deviation = moment.memory.setdefault(name, (magnitudes.mean(), spread))
        base = mean.item() + deviation.item() * sensitivity
        mask = moment.masks.get(name, torch.ones_like(weight, dtype=torch.bool)).clone()
        mask[magnitudes < base * self.low_thresh_mult] = False
        mask[magnitudes >= base * self.hi_thresh_mult] = True
        return mask


class BaiduRnnPruner(_ElementPruner):
    """`BaiduRNNPruner`: a threshold that rises slowly, then faster (Narang et al. 2017, sec. 3, algorithm 1)."""

    q: Amount
    ramp_epoch_offset: Annotated[int, Field(ge=0)]
    ramp_slope_mult: Amount
    weights: Names

    @override
    def mask(self, name: str, weight: Tensor, moment: Moment) -> Tensor:
        assert isinstance(moment.epochs, range)
        return weight.abs() > self.threshold(moment.epoch, moment.epochs)

    def threshold(self, epoch: int, epochs: range) -> float:
        """Return the threshold of an epoch."""
        start, end, frequency = epochs.start, epochs.stop, epochs.step
        ramp = start + self.ramp_epoch_offset
        slope = 2 * self.q * frequency / (2 * (ramp - start) + 3 * (end - ramp))
        if epoch < ramp:
            return slope * (epoch - start + 1) / frequency
        return (slope * (ramp - start + 1) + slope * self.ramp_slope_mult * (epoch - ramp + 1)) / frequency

    @override
    def epoch_problems(self, epochs: Epochs) -> list[str]:
        if not isinstance(epochs, range):
            return ["needs starting_epoch, ending_epoch and frequency instead of 'epochs'"]
        ramp = self.ramp_epoch_offset
        if ramp > epochs.stop - epochs.start:
            return [f"has ramp_epoch_offset {ramp}, which lies behind its last epoch"]
        return []


class StructureThresholdPruner(_ElementPruner):
    """`StructureParameterPruner`: structures up to a threshold go."""

    names_field: ClassVar[str] = "reg_regims"

    reg_regims: Annotated[dict[str, tuple[Amount, Structure]], Field(min_length=1)]
    """Parameter -> (threshold, structure)."""
    threshold_criteria: Criterion

    @override
    def mask(self, name: str, weight: Tensor, moment: Moment) -> Tensor:
        threshold, structure = self.reg_regims[name]
        return group_mask(weight, structure, threshold, self.threshold_criteria)

    @override
    def shape_problem(self, name: str, shape: tuple[int, ...]) -> str | None:
        return structure_problem(self.reg_regims[name][1] if name in self.reg_regims else "Filters", shape)
