"""What networks are worth as the device computes them: `secateur benchmark --dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from secateur import progress
from secateur.benchmark import assess, predict
from secateur.config import Dataset, DeviceProfile, load_study, unseen_validation
from secateur.resources import here_or_shipped
from secateur.results import DeviceQuality
from secateur.steps.source import is_file_name

_NUM_WORST = 3


@dataclass(frozen=True)
class TestImages:
    """What networks are evaluated on."""

    images_NCHW: npt.NDArray[np.float32]
    """Normalised as for training."""
    labels_N: npt.NDArray[np.int64]
    class_names: tuple[str, ...]

    def assess(self, model: Path, profile: DeviceProfile) -> DeviceQuality:
        """Evaluate an ONNX file through the device.

        Raises:
            InputError: The images are not this network's.
            MeasurementError: The runner failed.
        """
        return assess(predict(model, self.images_NCHW, profile), self.labels_N)


def load_test_images(dataset: str) -> TestImages:
    """Load a dataset's test images.

    Args:
        dataset: Its name; or a study's file, for images that are sized and normalised as its networks were trained.

    Raises:
        InputError: There is no such dataset or study.
    """
    import torch

    from secateur.datasets import load_splits

    if is_file_name(dataset):  # what it validates on, it does not test on
        images = unseen_validation(load_study(here_or_shipped(Path(dataset))))[0].dataset
    else:
        images = Dataset(name=dataset)
    splits = load_splits(images)
    progress.message(f"evaluating on the {len(splits.test)} test images of {dataset}: choose nothing by the result.")
    (pixels_NHWC,) = splits.test.batches([torch.arange(len(splits.test))])
    images_NHWC = pixels_NHWC.numpy().astype(np.float32) / 255
    mean_C, std_C = np.array(splits.normalize.mean, np.float32), np.array(splits.normalize.std, np.float32)
    normalised_NHWC = ((images_NHWC - mean_C) / std_C).astype(np.float32, copy=False)
    return TestImages(
        np.ascontiguousarray(normalised_NHWC.transpose(0, 3, 1, 2)), splits.test.labels_N.numpy(), splits.class_names
    )


def worst_classes(quality: DeviceQuality, class_names: Sequence[str]) -> str:
    """Return in a sentence which classes are missed most; of equals the first.

    ::

        Missed most: cat (found 70.1 %, specificity 98.2 %, often taken for dog), bird (...), deer (...).
    """
    found = sorted((share, index) for index, share in enumerate(quality.sensitivity) if share is not None and share < 1)
    told = [f"{class_names[index]} ({_class_text(quality, class_names, index)})" for _, index in found[:_NUM_WORST]]
    return f"Missed most: {', '.join(told)}." if told else "No image was missed."


def _class_text(quality: DeviceQuality, class_names: Sequence[str], index: int) -> str:
    assert quality.confusion is not None  # `assess` counts it
    sensitivity, specificity, row = quality.sensitivity[index], quality.specificity[index], quality.confusion[index]
    mistaken = max((other for other in range(len(row)) if other != index), key=lambda other: row[other])
    wrong = class_names[mistaken] if mistaken < len(class_names) else f"class {mistaken}"
    rest = "" if specificity is None else f", specificity {specificity:.1%}"
    return f"found {sensitivity:.1%}{rest}, often taken for {wrong}"
