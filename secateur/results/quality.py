"""How well a network tells classes apart; `top1` and `top5` are percentages."""

from __future__ import annotations

from pydantic import Field

from secateur.confusion import lowest_percent
from secateur.results.record import Record


class _Quality(Record):
    top1: float
    top5: float
    num_images: int
    confusion: tuple[tuple[int, ...], ...] | None = None
    """Images of class i (row) that were taken for class j (column); of test data only, for it can be large."""
    sensitivity: tuple[float | None, ...] = ()
    """For each class, the share of its images that were found; None of no images."""
    specificity: tuple[float | None, ...] = ()
    """For each class, the share of the other images that were not taken for it; None of no images."""


class DeviceQuality(_Quality):
    """A network's quality as the device computes it: an export or a lower precision can change it."""


class EpochResult(Record):
    """One epoch of retraining; the evaluation is on validation data."""

    epoch: int
    """From 0; -1 is the network before retraining: thinned, its batch normalisation recalibrated."""
    lr: float | None
    training_loss: float | None
    top1: float
    top5: float
    loss: float
    duration_s: float
    images_per_s: float | None = None
    """Of training alone, the evaluation left out."""


class Scores(_Quality):
    """A network's quality on one set of images."""

    loss: float
    num_predicted_classes: int | None = None
    """Distinct classes among the predictions; 1: the network says the same of every image."""
    calibration_error: float | None = None
    """Expected distance between confidence and accuracy, in percent (Guo et al. 2017; 15 bins)."""
    others: dict[str, float] = Field(default_factory=dict)
    """What the study's own evaluation function returned."""

    @property
    def metrics(self) -> dict[str, float | None]:
        """Every metric that these images tell, by name, and the study's own."""
        return {
            "top1": self.top1,
            "top5": self.top5,
            "loss": self.loss,
            "min_class_sensitivity": lowest_percent(self.sensitivity),
            "min_class_specificity": lowest_percent(self.specificity),
            "calibration_error": self.calibration_error,
            **self.others,
        }


class TestScores(Scores):
    """Quality on test data: touched for finalists and baselines alone, and each access is noted."""

    accessed_at: tuple[str, ...]
    """UTC times of each access, ISO 8601."""
    class_names: tuple[str, ...] = ()
    """Of each class, in order."""
