"""Images: what a network is trained on, chosen by and tested with."""

from secateur.datasets.loading import check_dataset, dataset_stamp, known_input_size, load_splits
from secateur.datasets.splits import ImageSet, Splits, data_identity

__all__ = ["ImageSet", "Splits", "check_dataset", "data_identity", "dataset_stamp", "known_input_size", "load_splits"]
