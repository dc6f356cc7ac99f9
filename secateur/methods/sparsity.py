"""How much goes: at once, or gradually more (AGP)."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from secateur.methods.method import Epochs, Method, Moment, Sparsity


def gradual_sparsity(initial: float, final: float, epoch: int, epochs: range) -> float:
    """Return ``final + (initial - final) * (1 - (epoch - start) / span) ** 3`` (Zhu and Gupta 2017, eq. 1; SPEC 6).

    `span` reaches from the first to the last epoch of `epochs`, of which there are at least two: the last one hits
    `final` exactly.
    """
    span = epochs[-1] - epochs.start
    return float(final + (initial - final) * (1 - (epoch - epochs.start) / span) ** 3)


class OneShot(Method):
    """The same sparsity at every call."""

    desired_sparsity: Sparsity

    def sparsity(self, moment: Moment) -> float:  # noqa: ARG002
        """Return the fraction to remove now."""
        return self.desired_sparsity

    @property
    def removes_structures(self) -> bool:
        """Whether anything goes at all, in the end."""
        return self.desired_sparsity > 0


class Gradual(Method):
    """A sparsity that grows from epoch to epoch."""

    initial_sparsity: Sparsity
    final_sparsity: Sparsity

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.final_sparsity <= self.initial_sparsity:
            raise ValueError(
                f"final_sparsity must be above initial_sparsity, got {self.initial_sparsity} and {self.final_sparsity}"
            )
        return self

    def sparsity(self, moment: Moment) -> float:
        """Return the fraction to remove now."""
        assert isinstance(moment.epochs, range)
        return gradual_sparsity(self.initial_sparsity, self.final_sparsity, moment.epoch, moment.epochs)

    @property
    def removes_structures(self) -> bool:
        """Whether anything goes at all, in the end."""
        return True

    def epoch_problems(self, epochs: Epochs) -> list[str]:
        """Return why sparsity cannot grow over such epochs."""
        if not isinstance(epochs, range):
            return ["needs starting_epoch, ending_epoch and frequency instead of 'epochs'"]
        return ["must act in two epochs at least, to grow"] if len(epochs) < 2 else []
