"""What goes into the retraining of a candidate, and what comes out, as records keep it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError
from torch import nn

from secateur.config import METRICS
from secateur.datasets import Images
from secateur.datasets.cache import cache_folder
from secateur.errors import StudyError
from secateur.pruning import ScheduleEngine
from secateur.references import resolve
from secateur.results import EpochResult, Scores
from secateur.stopwatch import Stopwatch
from secateur.thinning import Network
from secateur.training import Evaluation, TrainedEpoch, TrainingResult

GoesOn = Callable[[Sequence[TrainedEpoch]], bool]
"""Given the epochs so far, whether there is to be another."""

_KEPT_S = 30 * 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """A candidate whose retraining has not begun."""

    identity: str
    """Key under which its result is kept, and found by equal candidates."""
    untrained_identity: str
    """The same of the network as it is now: the identity itself, where nothing is retrained."""
    unpruned: str
    """Artifact key of the network it was made from."""
    arch: str
    num_classes: int
    is_changed: bool
    """Pruning took something away."""
    engine: ScheduleEngine
    watch: Stopwatch

    @property
    def module(self) -> nn.Module:
        """The network."""
        return self.engine.model

    @property
    def network(self) -> Network:
        """The network as it is now, with what is needed to make it again."""
        return Network(
            module=self.module,
            arch=self.arch,
            num_classes=self.num_classes,
            kept=self.engine.kept,
            removed_blocks=self.engine.removed_blocks,
        )


def always(epochs: Sequence[TrainedEpoch]) -> bool:  # noqa: ARG001
    """Let every training go on to its end."""
    return True


def with_own_metrics(evaluation: str | None, scores: Scores, module: nn.Module, images: Images) -> Scores:
    """Add what a study's own evaluation function says, if it has one.

    Raises:
        StudyError: It returns something else than numbers by name, or a metric that there is already.
    """
    if evaluation is None:
        return scores
    others = resolve(evaluation, StudyError)(module.eval(), images)
    try:
        scores = Scores(**{**scores.model_dump(), "others": others})
    except ValidationError as exc:
        raise StudyError(f"evaluation {evaluation!r}: expected a mapping of names to numbers, got {others!r}.") from exc
    if taken := sorted(METRICS.keys() & scores.others):
        raise StudyError(f"evaluation {evaluation!r}: {taken} are metrics already; name yours otherwise.")
    return scores


def scores_of(evaluation: Evaluation) -> Scores:
    """Return an evaluation as records keep it."""
    return Scores(**asdict(evaluation))


def epochs_of(result: TrainingResult) -> tuple[EpochResult, ...]:
    """Return the epochs of a training as records keep them."""
    return tuple(EpochResult(**asdict(epoch)) for epoch in result.epochs)


def before_training(scores: Scores, watch: Stopwatch) -> EpochResult:
    """Write the network before retraining down as epoch -1."""
    return EpochResult(
        epoch=-1,
        lr=None,
        training_loss=None,
        top1=scores.top1,
        top5=scores.top5,
        loss=scores.loss,
        duration_s=watch.seconds["prune"],
    )


def checkpoint_path(identity: str) -> Path:
    """Return where the training of a network leaves its state on this host."""
    return _checkpoints() / Path(identity).with_suffix(".safetensors").name


def clear_old_checkpoints() -> None:
    """Remove what trainings left that failed, or were killed and never taken up again, a month ago."""
    for path in _checkpoints().glob("*.safetensors*"):
        with suppress(FileNotFoundError):  # another process clears, too, or its training has just ended
            if time.time() - path.stat().st_mtime > _KEPT_S:
                path.unlink()


def _checkpoints() -> Path:
    return cache_folder() / "training"
