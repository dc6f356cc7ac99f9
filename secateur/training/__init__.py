"""Retraining and evaluation: SGD on images held as one uint8 tensor, with the moments of a compression schedule."""

from secateur.training.batches import Images, Normalization
from secateur.training.callbacks import Callbacks, NoCallbacks
from secateur.training.evaluation import evaluate
from secateur.training.loop import TrainingResult, train
from secateur.training.settings import Device, Precision, TrainingSettings, fastest_precision

__all__ = [
    "Callbacks",
    "Device",
    "Images",
    "NoCallbacks",
    "Normalization",
    "Precision",
    "TrainingResult",
    "TrainingSettings",
    "evaluate",
    "fastest_precision",
    "train",
]
