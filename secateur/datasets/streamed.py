"""Images that take more memory than there is: decoded anew whenever they are read, a few batches ahead."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from secateur.datasets.decoding import ImageFile, decode_batches


@dataclass(frozen=True, kw_only=True, eq=False)
class StreamedImages:
    """What `ImageSet` is, in files: pixel for pixel what it would hold, so that networks train alike on both."""

    files: tuple[ImageFile, ...]
    labels_N: Tensor
    """int64, classes from 0."""
    input_size: int | None
    """Height and width to which files are resized; None: they are of one size."""
    shape_HW: tuple[int, int]
    """Height and width of every image."""

    images_NHWC: None = None
    """Not in memory."""

    def __len__(self) -> int:
        return len(self.files)

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the pixels of each batch of rows, uint8; the threads that decode end with the iterator.

        Raises:
            DatasetError: A file is no image, or of another size; it is named.
        """
        wanted = ([self.files[row] for row in rows_N.tolist()] for rows_N in rows)
        for batch_NHWC in decode_batches(wanted, self.input_size, self.shape_HW):
            yield torch.from_numpy(batch_NHWC)

    def select(self, is_selected_N: npt.NDArray[np.bool_]) -> StreamedImages:
        """Return the images where `is_selected_N`, in order."""
        return StreamedImages(
            files=tuple(compress(self.files, is_selected_N.tolist())),
            labels_N=self.labels_N[torch.from_numpy(np.flatnonzero(is_selected_N))],
            input_size=self.input_size,
            shape_HW=self.shape_HW,
        )

    @cached_property
    def digest(self) -> str:
        """sha256 of shape, files (names, sizes, times) and labels: pixels would take as long as an epoch."""
        digest = hashlib.sha256(repr(self.shape_HW).encode())
        for file in self.files:
            digest.update(repr((file.class_folder.name, file.name, file.num_bytes, file.mtime_ns)).encode())
        digest.update(self.labels_N.numpy().data)
        return digest.hexdigest()
