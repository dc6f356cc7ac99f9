"""`secateur benchmark --dataset`: which images the device sees, and what is said of its answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secateur.benchmark import assess
from secateur.cli import quality
from secateur.cli.quality import evaluate_on, worst_classes
from secateur.config import DeviceProfile
from secateur.errors import DatasetError, StudyError
from tests.flows.tiny import images, write_study

NAMES = ("red", "green", "blue", "grey")


def confused(*rows: tuple[int, ...]) -> Any:
    """Return the quality of a network with this confusion matrix."""
    pairs = [(i, j) for i, row in enumerate(rows) for j, count in enumerate(row) for _ in range(count)]
    labels_N, predicted_N = np.array(pairs).T
    return assess(np.eye(len(rows), dtype=np.float32)[predicted_N], labels_N)


def test_the_worst_classes_are_named() -> None:
    rows = ((8, 2, 0, 0), (0, 5, 5, 0), (1, 0, 9, 0), (0, 0, 0, 10))
    assert worst_classes(confused(*rows), NAMES) == (
        "Missed most: green (found 50.0%, specificity 93.3%, often taken for blue),"
        " red (found 80.0%, specificity 96.7%, often taken for green),"
        " blue (found 90.0%, specificity 83.3%, often taken for red)."
    )


def test_nothing_missed_and_classes_without_images() -> None:
    assert worst_classes(confused((3, 0), (0, 0)), NAMES) == "No image was missed."
    told = worst_classes(confused((1, 0, 2), (0, 0, 0), (0, 0, 0)), NAMES[:1])
    assert told == "Missed most: red (found 33.3%, often taken for class 2)."


@pytest.mark.parametrize(("mean", "std"), [(0.5, 0.5), (0.25, 0.125)], ids=["the dataset's own", "the study's"])
def test_images_are_normalised_as_the_study_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mean: float, std: float
) -> None:
    seen: dict[Path, np.ndarray] = {}

    def predict(path: Path, images_NCHW: np.ndarray, profile: DeviceProfile) -> np.ndarray:
        seen[path] = images_NCHW
        return np.eye(3, dtype=np.float32)[np.arange(24) % 3]

    monkeypatch.setattr(quality, "predict", predict)
    dataset = {"name": "python:tests.flows.tiny:images", "normalize": {"mean": [mean] * 3, "std": [std] * 3}}
    study = write_study(tmp_path, {"dataset": dataset})
    evaluation = evaluate_on(str(study), [Path("a.onnx")], DeviceProfile())
    raw_NCHW = images().test.images_NHWC.permute(0, 3, 1, 2).numpy()
    np.testing.assert_allclose(seen[Path("a.onnx")], (raw_NCHW / 255 - mean) / std, rtol=1e-5, atol=1e-5)
    assert evaluation.class_names == ("red", "green", "blue")
    assert evaluation.qualities[Path("a.onnx")].top1 == 100.0


def test_neither_a_dataset_nor_a_study() -> None:
    with pytest.raises(DatasetError, match="there is no 'digit'"):
        evaluate_on("digit", [], DeviceProfile())
    with pytest.raises(StudyError, match=r"nowhere\.yaml: there is no such file"):
        evaluate_on("nowhere.yaml", [], DeviceProfile())
