"""What all classes have in common that a compression schedule may name."""

from __future__ import annotations

import random
from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Self

import numpy as np
import torch
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from torch import Tensor

from secateur.errors import TrainingError, did_you_mean
from secateur.methods.names import own_names, short_name

Shapes = Mapping[str, tuple[int, ...]]
"""Every parameter's shape, by name, in the model's order."""
Epochs = range | tuple[int, ...]
"""Of a policy, as written: a range (start, end, frequency), or a list in any order."""

EVERY_OTHER = "*"
"""In a mapping of parameters: all that are not named, biases and normalisations included (SPEC 5)."""


def _one_or_many(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def _below_one(sparsity: float) -> float:
    if not 0 <= sparsity < 1:  # NaN fails too
        raise ValueError("must be in [0, 1)")
    return sparsity


def _fraction(level: float) -> float:
    if not 0 <= level <= 1:
        raise ValueError("must be in [0, 1]")
    return level


Sparsity = Annotated[float, AfterValidator(_below_one)]
Level = Annotated[float, AfterValidator(_fraction)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A threshold, a sensitivity or a strength."""
Names = Annotated[tuple[str, ...], BeforeValidator(_one_or_many), Field(min_length=1)]


class Method(BaseModel):
    """A class of a schedule: its fields are the arguments that stand in the YAML."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ParameterMethod(Method):
    """A method that names parameters of the network, in one of its fields: a list, or a mapping of names."""

    names_field: ClassVar[str] = "weights"
    takes_every_other: ClassVar[bool] = False
    """Whether `EVERY_OTHER` may stand among the names."""

    @property
    def named(self) -> Any:
        """Return the field that names parameters."""
        return getattr(self, self.names_field)

    def for_model(self, names: Iterable[str]) -> Self:
        """Return a copy that calls parameters as the model does; see `own_names`."""
        own = {name: resolved or name for name, resolved in own_names(self.named, names).items()}
        if isinstance(self.named, Mapping):
            return self.model_copy(update={self.names_field: {own[n]: value for n, value in self.named.items()}})
        return self.model_copy(update={self.names_field: tuple(own.values())})

    def among(self, names: Collection[str]) -> Self:
        """Return a copy without the parameters that the network has lost; it may be left without any."""
        named = self.named
        left = (
            {n: v for n, v in named.items() if n in names or n == EVERY_OTHER}
            if isinstance(named, Mapping)
            else tuple(n for n in named if n in names)
        )
        return self.model_copy(update={self.names_field: left})

    def problems(self, shapes: Shapes, model_name: str) -> list[str]:
        """Return why this does not fit a model: unknown parameters, wrong shapes."""
        problems = []
        spelled: dict[str, str] = {}
        for name, own in own_names(self.named, shapes).items():
            if name == EVERY_OTHER and self.takes_every_other:
                continue
            if own is None:
                fitting = [n for n, shape in shapes.items() if self.shape_problem(n, shape) is None]
                near = did_you_mean(short_name(name), fitting)
                problems.append(f"layer {name!r} is not in {model_name}.{near}")
            elif (problem := self.shape_problem(name, shapes[own])) is not None:
                problems.append(f"{name!r} has shape {shapes[own]}; {problem}")
            elif (other := spelled.setdefault(own, name)) != name:
                problems.append(f"{other!r} and {name!r} are the same parameter: name it once.")
        return problems

    def shape_problem(self, name: str, shape: tuple[int, ...]) -> str | None:  # noqa: ARG002
        """Return what is needed instead of a parameter of such a shape; None if it is right."""
        return None


@dataclass(frozen=True, kw_only=True)
class Chance:
    """Where random pruners get their numbers: the same kinds of generators as Distiller, but seeded, and our own."""

    seed: int
    python: random.Random = field(init=False)
    numpy: np.random.RandomState = field(init=False)
    torch: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "python", random.Random(self.seed))
        object.__setattr__(self, "numpy", np.random.RandomState(self.seed))
        object.__setattr__(self, "torch", torch.Generator().manual_seed(self.seed))

    def state_dict(self) -> dict[str, Any]:
        """Return where each generator is."""
        numpy: Any = self.numpy.get_state(legacy=True)
        kind, keys, *rest = numpy
        return {
            "python": self.python.getstate(),
            "numpy": [kind, keys.tolist(), *rest],
            "torch": self.torch.get_state(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on drawing where other generators were; their state may have been JSON meanwhile."""
        version, keys, gauss = state["python"]
        self.python.setstate((version, tuple(keys), gauss))
        self.numpy.set_state(tuple(state["numpy"]))
        self.torch.set_state(state["torch"])


@dataclass(frozen=True, kw_only=True)
class Activations:
    """What came out of a layer's ReLU, over all images since the epoch before began."""

    mean: Tensor
    """One a filter: the mean over images and positions."""
    zeros_percent: Tensor
    """One a filter: the average percentage of zeros, APoZ (Hu et al. 2016, eq. 1)."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What a pruner sees when it chooses."""

    epoch: int
    epochs: Epochs
    """Of the policy that calls."""
    weights: Mapping[str, Tensor]
    """Every parameter as it is now, in the model's order; detached."""
    gradients: Mapping[str, Tensor] = field(default_factory=dict)
    """Of the last minibatch; absent, where there was none."""
    activations: Mapping[str, Activations] = field(default_factory=dict)
    """By convolution."""
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """Now in force: bool, of the parameter's shape, True = keep."""
    memory: dict[str, Any] = field(default_factory=dict)
    """What this pruner noted earlier; its own."""
    chance: Chance = field(default_factory=lambda: Chance(seed=0))


class Pruner(ParameterMethod):
    """Chooses what is kept at zero."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Of "gradients" and "activations": what there is only after some training."""

    @abstractmethod
    def masks(self, moment: Moment) -> dict[str, Tensor]:
        """Return new masks: bool, of the parameter's shape, True = keep. Parameters left out keep the mask they have.

        Raises:
            TrainingError: Weights are NaN, or what the pruner ranks by has not been seen yet.
        """

    def epoch_problems(self, epochs: Epochs) -> list[str]:  # noqa: ARG002
        """Return why this pruner cannot act in such epochs."""
        return []


def check_numbers(name: str, magnitudes: Tensor) -> None:
    """Refuse to rank what is not a number.

    Raises:
        TrainingError: Some are NaN or infinite.
    """
    num_broken = int((~magnitudes.isfinite()).sum())
    if num_broken:
        raise TrainingError(
            f"{name!r} cannot be pruned: {num_broken} of {magnitudes.numel()} magnitudes are NaN or infinite. Its "
            "weights have diverged or are damaged: check where they come from, or train with a smaller lr."
        )
