"""No image is in two parts, whatever the dataset and the setting; and what is tested is not looked at before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from secateur import progress
from secateur.candidate import Workshop
from secateur.config import Dataset
from secateur.datasets import ImageSet, Splits, load_splits, loading
from secateur.datasets.splits import Parts, split
from secateur.results import OFF_THE_SHELF, UNPRUNED
from secateur.steps.compress import compress
from secateur.steps.compress import test as evaluate_finalist
from secateur.steps.open import open_study
from secateur.steps.record import proposed
from secateur.store import StudyFiles
from tests.datasets.test_cifar import made_up
from tests.datasets.test_splits import numbered, numbers_of
from tests.fakes import MemoryStore
from tests.test_candidate import make_study

__all__ = ["made_up"]

SETTINGS: list[Any] = [None, 1, 2, {"from": "test", "files": "even"}, {"from": "test", "files": "odd"}]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for part, count in (("train", 9), ("val", 6)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8), (number, label, count)).save(tmp_path / part / name / f"{number}.png")
    return tmp_path


@pytest.fixture
def dataset_of(made_up: Path, folder: Path) -> Callable[..., Dataset]:
    def make(name: str, **settings: Any) -> Dataset:
        path = f"imagefolder:{folder}" if name == "imagefolder" else name
        return Dataset.model_validate({"name": path, "root": made_up, **settings})

    return make


@pytest.mark.parametrize("validation", SETTINGS, ids=str)
@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar100", "imagefolder"])
def test_the_parts_are_disjoint_and_nothing_is_lost(
    name: str, validation: Any, dataset_of: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []

    def split_numbers(parts: Parts, validation: Any) -> Splits:
        """Divide as `split` does, but images that carry their number, so that they can be told apart for sure."""
        labels_N, test_labels_N = parts.train.labels_N.numpy(), parts.test.labels_N.numpy()
        sizes[:] = [len(labels_N), len(test_labels_N)]
        train, test = numbered(labels_N), numbered(test_labels_N, first=len(labels_N))
        return split(replace(parts, train=train, test=test), validation)

    monkeypatch.setattr(loading, "split", split_numbers)
    splits = load_splits(dataset_of(name, validation=validation))
    numbers = [number for part in (splits.train, splits.validation, splits.test) for number in numbers_of(part)]
    assert sorted(numbers) == list(range(sum(sizes)))
    is_from_test = isinstance(validation, dict)
    assert all(number < sizes[0] for number in numbers_of(splits.train))
    assert all((number >= sizes[0]) == is_from_test for number in numbers_of(splits.validation))
    assert all(number >= sizes[0] for number in numbers_of(splits.test))


@pytest.mark.parametrize("name", ["digits", "imagefolder"])
def test_the_makers_parts_share_no_image_either(name: str, dataset_of: Callable[..., Dataset]) -> None:
    loading._check_disjoint(load_splits(dataset_of(name)), name)


class Watched:
    """Test images that note when their pixels are looked at; their digest is part of a result's identity."""

    def __init__(self, images: ImageSet) -> None:
        self._images = images
        self.labels_N, self.digest = images.labels_N, images.digest
        self.num_accesses = 0

    def __len__(self) -> int:
        return len(self._images)

    @property
    def images_NHWC(self) -> torch.Tensor:
        self.num_accesses += 1
        return self._images.images_NHWC

    def batches(self, rows: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        self.num_accesses += 1
        return self._images.batches(rows)


def test_test_images_are_looked_at_for_finalists_alone_and_each_time_is_noted() -> None:
    store, study = MemoryStore(), make_study(training={"epochs": 1, "lr": 0.01, "batch_size": 16})
    files = StudyFiles(store, study.name)
    opened = open_study(files, study)
    workshop = Workshop(study=opened, store=store)
    watched = Watched(workshop.splits.test)
    workshop.__dict__["splits"] = replace(workshop.splits, test=watched)
    labels = [UNPRUNED, OFF_THE_SHELF, "0"]
    for label in labels:
        parameters = {"pruner_0.desired_sparsity": 0.5} if label == "0" else {}
        files.write_record(proposed(study.name, label, method="random", parameters=parameters, seed=0))
        assert compress(workshop, files, label, 1).state == "compressed"
    assert watched.num_accesses == 0
    counts = []
    for label in (UNPRUNED, "0", "0"):  # asked again, it is not tested again
        evaluate_finalist(workshop, files, label, 1)
        counts.append(watched.num_accesses)
    assert counts[0] > 0
    assert counts == [counts[0], 2 * counts[0], 2 * counts[0]]
    noted = [record.test.accessed_at for record in map(files.read_record, labels) if record.test]
    assert len(noted) == 2
    assert all(len(times) == 1 for times in noted)


@pytest.fixture
def messages() -> Iterator[list[str]]:
    told: list[str] = []

    class Listener(progress.Silent):
        def message(self, text: str) -> None:
            told.append(text)

    with progress.show_on(Listener()):
        yield told


def test_an_unreadable_image_is_skipped_on_request(
    folder: Path, dataset_of: Callable[..., Dataset], messages: list[str]
) -> None:
    (folder / "val" / "cat" / "2.png").write_bytes(b"no image")
    dataset = dataset_of("imagefolder", skip_unreadable=True, validation={"from": "test", "files": "even"})
    for _ in range(2):  # decoded, and from the cache
        splits = load_splits(dataset)
        assert splits.validation.images_NHWC[:, 0, 0, 0].tolist() == [0, 4, 0, 2, 4]
        assert splits.validation.labels_N.tolist() == [0, 0, 1, 1, 1]
        assert (len(splits.train), len(splits.test)) == (18, 6)
    [told] = messages
    assert "cat/2.png is no readable image" in told
    assert told.endswith("It was skipped.")


def test_a_class_without_a_validation_image_is_told(folder: Path, messages: list[str]) -> None:
    for number in (0, 2, 4):
        (folder / "val" / "dog" / f"{number}.png").unlink()
    load_splits(Dataset.model_validate({"name": f"imagefolder:{folder}", "validation": {"from": "test"}}))
    assert messages == [
        f"dataset imagefolder:{folder}: the validation images show nothing of class 'dog': its figures are unknown."
    ]


def test_carving_must_leave_each_class_something(folder: Path, dataset_of: Callable[..., Dataset]) -> None:
    for number in range(1, 9):
        (folder / "train" / "dog" / f"{number}.png").unlink()
    with pytest.raises(loading.DatasetError, match=r"no training image is left of class 'dog'.*take fewer"):
        load_splits(dataset_of("imagefolder", validation=9))


def test_a_folder_that_changes_is_read_again_by_the_next_candidate(folder: Path) -> None:
    study = make_study(dataset=f"imagefolder:{folder}")
    before = Workshop(study=study, store=MemoryStore()).splits
    assert Workshop(study=study, store=MemoryStore()).splits is before
    path = folder / "train" / "cat" / "3.png"
    Image.new("RGB", (8, 8), (200, 0, 0)).save(path)
    os.utime(path, ns=(1, 1))
    after = Workshop(study=study, store=MemoryStore()).splits
    both = [torch.cat([s.train.images_NHWC, s.validation.images_NHWC]) for s in (before, after)]
    assert [200 in np.asarray(images) for images in both] == [False, True]
