"""Folders that are too large for memory are read from their files, and train as if they were not."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from secateur import progress
from secateur.config import Dataset
from secateur.datasets import Splits, StreamedImages, load_splits
from secateur.errors import DatasetError
from secateur.training import NoCallbacks, TrainingSettings, evaluate, recalibrate_bn, train
from tests.training.networks import small_network

CLASSES = ("cat", "dog")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve training and four test photographs of each class, noise all of them, none of them square."""
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    random = np.random.default_rng(0)
    for part, count in (("train", 12), ("test", 4)):
        for name in CLASSES:
            (tmp_path / "data" / part / name).mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(0, 256, (14, 11 + index % 3, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / part / name / f"{index:04}.png")
    return tmp_path / "data"


def load(folder: Path, **settings: Any) -> Splits:
    name = f"imagefolder:{folder}"
    return load_splits(Dataset.model_validate({"name": name, "input_size": 10, "validation": 4, **settings}))


def streamed(folder: Path, **settings: Any) -> Splits:
    return load(folder, max_memory_bytes=0, **settings)


def pixels(images: Any) -> torch.Tensor:
    return next(images.batches([torch.arange(len(images))]))


def run(splits: Splits) -> list[float]:
    """Recalibrate, train and evaluate; return all that was found out."""
    model = small_network(2)
    recalibrate_bn(model, splits.train, splits.normalize)
    result = train(
        model,
        splits.train,
        splits.validation,
        TrainingSettings(epochs=3, lr=0.05, batch_size=8, max_shift=1),
        NoCallbacks(),
        normalize=splits.normalize,
    )
    test = evaluate(model, splits.test, splits.normalize, batch_size=3)
    return [figure for e in result.epochs for figure in (e.training_loss, e.top1, e.loss)] + [test.top1, test.loss]


def decoding_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("decoding")]


def test_a_folder_that_is_streamed_has_the_same_images(folder: Path) -> None:
    held, read = load(folder), streamed(folder)
    assert isinstance(read.train, StreamedImages)
    assert read.input_size == held.input_size
    for part in ("train", "validation", "test"):
        assert torch.equal(pixels(getattr(read, part)), pixels(getattr(held, part)))
        assert torch.equal(getattr(read, part).labels_N, getattr(held, part).labels_N)


def test_it_trains_as_one_in_memory_and_leaves_no_thread(folder: Path) -> None:
    assert run(streamed(folder)) == run(load(folder))
    assert decoding_threads() == []


def test_the_user_is_told_why(folder: Path) -> None:
    messages: list[str] = []

    class Told(progress.Silent):
        def message(self, text: str) -> None:
            messages.append(text)

    with progress.show_on(Told()):
        load(folder, max_memory_bytes=32 * 10 * 10 * 3)
        assert messages == []
        load(folder, max_memory_bytes=32 * 10 * 10 * 3 - 1)
    assert "32 images would take 9.6e-06 GB of memory" in messages[0]


def test_a_broken_image_ends_a_training_with_its_name(folder: Path) -> None:
    splits = streamed(folder)
    (folder / "train" / "dog" / "0003.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"dog/0003\.png is no readable image.*dataset\.skip_unreadable"):
        run(splits)
    assert decoding_threads() == []


def test_what_cannot_be_read_is_left_out_where_that_is_wanted(folder: Path) -> None:
    (folder / "train" / "dog" / "0003.png").write_bytes(b"no image")
    held, read, again = (load_(folder, skip_unreadable=True) for load_ in (load, streamed, streamed))
    assert len(read.train) == len(held.train) == 23 - 4
    assert read.train.digest == again.train.digest
    assert run(read) == run(held)


def test_folders_of_broken_images_are_refused(folder: Path) -> None:
    for path in folder.glob("train/*/*.png"):
        path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match="none of the 24 files can be read as an image"):
        streamed(folder, skip_unreadable=True)


def test_an_image_of_another_size_is_named(folder: Path) -> None:
    for path in folder.glob("*/*/*.png"):
        Image.new("RGB", (8, 8)).save(path)
    Image.new("RGB", (8, 9)).save(folder / "test" / "dog" / "0003.png")
    splits = streamed(folder, input_size=None)
    assert splits.input_size == 8
    with pytest.raises(DatasetError, match=r"dog/0003\.png is 8 x 9 pixels.*8 x 8"):
        pixels(splits.test)


def test_an_abandoned_reading_ends_its_threads(folder: Path) -> None:
    batches = streamed(folder).train.batches([torch.arange(4)] * 20)
    assert next(batches).shape == (4, 10, 10, 3)
    assert decoding_threads()
    del batches
    assert decoding_threads() == []


def test_a_changed_file_makes_another_dataset(folder: Path) -> None:
    before = streamed(folder).train.digest
    assert streamed(folder).train.digest == before
    for path in folder.glob("train/dog/*.png"):
        os.utime(path, ns=(0, 0))
    splits = streamed(folder)
    assert splits.train.digest != before
