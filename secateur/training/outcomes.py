"""What training and evaluation find out: plain dataclasses, since a host that only trains has no pydantic."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A network's quality on one set of images."""

    top1: float
    """In percent; of equal logits the lower class comes first."""
    top5: float
    """In percent; 100 with five classes or fewer."""
    loss: float
    """Mean cross entropy."""
    num_images: int
    num_predicted_classes: int
    """Distinct classes among the predictions; 1: the network says the same of every image."""
    calibration_error: float
    """Expected distance between confidence and accuracy, in percent (Guo et al. 2017; 15 bins)."""
    confusion: tuple[tuple[int, ...], ...]
    """K x K: images of class i (row) that were taken for class j (column)."""
    sensitivity: tuple[float | None, ...]
    """Share of each class's images that were found; None of no images."""
    specificity: tuple[float | None, ...]
    """Share of the other images that were not taken for the class."""


@dataclass(frozen=True, kw_only=True)
class TrainedEpoch:
    """One epoch; the evaluation is on validation images."""

    epoch: int
    """From 0."""
    lr: float
    """The one it began with."""
    training_loss: float
    """Mean of the loss that was descended on, a schedule's regularisation left out."""
    top1: float
    top5: float
    loss: float
    duration_s: float
    """Evaluation included."""
    images_per_s: float
    """Of training alone."""


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What training led to. The last epoch counts, never the best."""

    epochs: tuple[TrainedEpoch, ...]
    validation: Evaluation
    """After the last epoch."""
