"""Images: what a network is trained on, chosen by and tested with."""

from secateur.datasets.loading import check_dataset, known_input_size, load_splits, shared_splits
from secateur.datasets.splits import Images, ImageSet, Splits, data_identity, halve_test
from secateur.datasets.streamed import StreamedImages

__all__ = [
    "ImageSet",
    "Images",
    "Splits",
    "StreamedImages",
    "check_dataset",
    "data_identity",
    "halve_test",
    "known_input_size",
    "load_splits",
    "shared_splits",
]
