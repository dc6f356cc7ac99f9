"""What networks are worth as the device computes them: `secateur benchmark --dataset`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from secateur import progress
from secateur.benchmark import assess, predict
from secateur.config import Dataset, DeviceProfile, load_study
from secateur.resources import here_or_shipped
from secateur.results import DeviceQuality
from secateur.steps.source import is_file_name

_NUM_WORST = 3


@dataclass(frozen=True)
class Evaluation:
    """Of some networks on one dataset's test images."""

    class_names: tuple[str, ...]
    qualities: dict[Path, DeviceQuality]


def evaluate_on(dataset: str, models: Sequence[Path], profile: DeviceProfile) -> Evaluation:
    """Evaluate ONNX files on test images, through the device.

    Args:
        dataset: Its name; or a study's file, for images that are sized and normalised as its networks were trained.
        models: The ONNX files.
        profile: Of the device.

    Raises:
        InputError: There is no such dataset or study, or it is none of these networks'.
        MeasurementError: The runner failed.
    """
    from secateur.datasets import load_splits

    is_study = is_file_name(dataset)
    splits = load_splits(load_study(here_or_shipped(Path(dataset))).dataset if is_study else Dataset(name=dataset))
    progress.message(f"evaluating on the {len(splits.test)} test images of {dataset}: choose nothing by the result.")
    images_NHWC = splits.test.images_NHWC.numpy().astype(np.float32) / 255
    mean_C, std_C = np.array(splits.normalize.mean, np.float32), np.array(splits.normalize.std, np.float32)
    normalised_NHWC = ((images_NHWC - mean_C) / std_C).astype(np.float32, copy=False)
    images_NCHW = np.ascontiguousarray(normalised_NHWC.transpose(0, 3, 1, 2))
    labels_N: npt.NDArray[np.int64] = splits.test.labels_N.numpy()
    qualities = {path: assess(predict(path, images_NCHW, profile), labels_N) for path in models}
    return Evaluation(splits.class_names, qualities)


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
