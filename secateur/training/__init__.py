"""Retraining and evaluation: SGD on images held as one uint8 tensor, with the moments of a compression schedule.

Needs torch, safetensors and numpy, and of this package `errors` and `progress` alone: so that it also runs on a host
that has nothing else.
"""

from secateur.training.batches import Images, Normalization
from secateur.training.callbacks import Callbacks, NoCallbacks
from secateur.training.evaluation import evaluate
from secateur.training.loop import train
from secateur.training.outcomes import Evaluation, TrainedEpoch, TrainingResult
from secateur.training.recalibration import recalibrate_bn
from secateur.training.settings import Device, LearningRateCurve, Precision, TrainingSettings, fastest_precision

__all__ = [
    "Callbacks",
    "Device",
    "Evaluation",
    "Images",
    "LearningRateCurve",
    "NoCallbacks",
    "Normalization",
    "Precision",
    "TrainedEpoch",
    "TrainingResult",
    "TrainingSettings",
    "evaluate",
    "fastest_precision",
    "recalibrate_bn",
    "train",
]
