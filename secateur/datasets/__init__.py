"""Images: what a network is trained on, chosen by and tested with."""

from secateur.datasets.loading import load_splits
from secateur.datasets.splits import ImageSet, Splits, data_identity

__all__ = ["ImageSet", "Splits", "data_identity", "load_splits"]
