"""What training found out, as records: `secateur.training` itself knows no pydantic."""

from __future__ import annotations

from dataclasses import asdict

from secateur.results import EpochResult, Scores
from secateur.training import Evaluation, TrainingResult


def scores_of(evaluation: Evaluation) -> Scores:
    """Return an evaluation as records hold it."""
    return Scores(**asdict(evaluation))


def epochs_of(result: TrainingResult) -> tuple[EpochResult, ...]:
    """Return all epochs as records hold them."""
    return tuple(EpochResult(**asdict(epoch)) for epoch in result.epochs)


def before_training(scores: Scores, duration_s: float) -> EpochResult:
    """Return the network before retraining as epoch -1."""
    return EpochResult(
        epoch=-1,
        lr=None,
        training_loss=None,
        top1=scores.top1,
        top5=scores.top5,
        loss=scores.loss,
        duration_s=duration_s,
    )
