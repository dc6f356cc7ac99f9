from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from secateur import progress
from secateur.config import Dataset, FromTest
from secateur.datasets import Splits, data_identity, decoding, load_splits
from secateur.errors import DatasetError

CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "imagefolder"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six training and four test images of each class; red tells the file, green the class, blue the part."""
    for blue, (part, count) in enumerate([("train", 6), ("test", 4)]):
        for green, name in enumerate(CLASSES):
            for red in range(count):
                save(tmp_path / "data" / part / name / f"{red:04}.png", (red, green, blue))
    return tmp_path / "data"


def save(path: Path, color: tuple[int, int, int], size: tuple[int, int] = (8, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path)


def load(folder: Path, **settings: object) -> Splits:
    return load_splits(Dataset.model_validate({"name": f"imagefolder:{folder}", **settings}))


def reds(images: torch.Tensor) -> list[int]:
    return images[:, 0, 0, 0].tolist()


def test_every_image_arrives_with_its_class(folder: Path) -> None:
    splits = load(folder, validation=4)
    assert splits.class_names == CLASSES
    assert splits.input_size == 8
    assert splits.normalize.mean == (0.485, 0.456, 0.406)
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (8, 4, 8)
    for blue, part in enumerate([splits.train, splits.test]):
        assert part.images_NHWC[:, 0, 0, 1].tolist() == part.labels_N.tolist()
        assert part.images_NHWC[..., 2].unique().tolist() == [blue]
    assert reds(splits.test.images_NHWC) == [0, 1, 2, 3, 0, 1, 2, 3]


@pytest.mark.parametrize("files", ["even", "odd"])
def test_file_numbers_divide_the_test_part(folder: Path, files: str) -> None:
    (folder / "test" / "cat" / "0002.png").rename(folder / "test" / "cat" / "0017.png")
    splits = load(folder, validation={"from": "test", "files": files})
    even, odd = [0, 0, 2], [1, 3, 2, 1, 3]
    expected = (even, odd) if files == "even" else (odd, even)
    assert (reds(splits.validation.images_NHWC), reds(splits.test.images_NHWC)) == expected


def test_files_without_a_number_count_by_position(folder: Path) -> None:
    for path in sorted((folder / "test").glob("*/*.png")):
        path.rename(path.with_name(f"img_{path.name}"))
    splits = load(folder, validation=FromTest(files="even"))
    assert reds(splits.validation.images_NHWC) == [0, 2, 0, 2]


@pytest.mark.parametrize("name", ["val", "valid"])
def test_a_validation_folder_serves_where_there_is_no_test(folder: Path, name: str) -> None:
    (folder / "test").rename(folder / name)
    assert len(load(folder).test) == 8


def test_other_files_are_passed_over(folder: Path) -> None:
    (folder / "train" / "cat" / "Thumbs.db").write_bytes(b"?")
    (folder / "train" / "notes.txt").write_text("?")
    assert len(load(folder, validation=4).train) == 8


def test_images_are_decoded_once(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(folder)
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".json", ".npy", ".npy"]
    monkeypatch.setattr(decoding, "_decode", None)
    assert data_identity(load(folder)) == data_identity(first)


def test_a_changed_file_is_decoded_again(folder: Path) -> None:
    before = data_identity(load(folder))
    path = folder / "train" / "cat" / "0001.png"
    save(path, (99, 0, 0))
    os.utime(path, ns=(1, 1))
    assert data_identity(load(folder)) != before


def test_images_stay_mapped_unless_carved(folder: Path) -> None:
    splits = load(folder, validation=FromTest())
    splits.train.images_NHWC[0] = 200  # copy on write: the file stays as it is
    assert 200 not in load(folder, validation=FromTest()).train.images_NHWC


def test_processes_may_decode_side_by_side(folder: Path, cache: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        identities = {data_identity(splits) for splits in pool.map(lambda _: load(folder), range(4))}
    assert len(identities) == 1
    assert not list(cache.glob(".*"))


def test_sizes_are_made_equal_around_the_centre(folder: Path) -> None:
    wide = np.zeros((10, 30, 3), dtype=np.uint8)
    wide[:, 8:22] = 255
    Image.fromarray(wide).save(folder / "train" / "cat" / "0000.png")
    splits = load(folder, input_size=16, validation=FromTest())
    assert splits.input_size == 16
    assert splits.train.images_NHWC[0].unique().tolist() == [255]


def test_grey_and_palette_images_become_rgb(folder: Path) -> None:
    Image.new("L", (8, 8), 50).save(folder / "train" / "cat" / "0000.png")
    Image.new("RGB", (8, 8), (51, 51, 51)).convert("P").save(folder / "train" / "cat" / "0001.gif")
    splits = load(folder, validation=FromTest())
    assert splits.train.images_NHWC[:2, 0, 0].tolist() == [[50, 50, 50], [51, 51, 51]]


def test_decoding_shows_how_far_it_is(folder: Path) -> None:
    seen: list[tuple[str, float | None, float]] = []

    class Recorder:
        @contextmanager
        def bar(self, description: str, total: float | None) -> Iterator[Recorder]:
            self.done = 0.0
            yield self
            seen.append((description, total, self.done))

        def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
            self.done += amount

        def message(self, text: str) -> None: ...

    with progress.show_on(Recorder()):
        load(folder)
    assert seen == [("decode 12 images", 12, 12), ("decode 8 images", 8, 8)]


def test_the_first_file_of_another_size_is_named(folder: Path) -> None:
    for number in (3, 5):
        save(folder / "train" / "dog" / f"{number:04}.png", (0, 0, 0), size=(9, 7))
    with pytest.raises(DatasetError, match=r"dog.0003.png is 9 x 7 pixels.*before it 8 x 8.*input_size"):
        load(folder)


def test_oblong_images_need_an_input_size(folder: Path) -> None:
    for path in folder.glob("*/*/*.png"):
        save(path, (0, 0, 0), size=(8, 6))
    with pytest.raises(DatasetError, match=r"must be square and of one size, got 8 x 6 pixels.*input_size"):
        load(folder)


def test_both_parts_need_one_size(folder: Path) -> None:
    for path in folder.glob("test/*/*.png"):
        save(path, (0, 0, 0), size=(16, 16))
    with pytest.raises(DatasetError, match="of one size, got 8 x 8 and 16 x 16 pixels"):
        load(folder)


@pytest.mark.parametrize("content", [b"", b"no image", "truncated"])
@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_damaged_image_is_named(folder: Path, cache: Path, content: bytes | str, suffix: str) -> None:
    path = (folder / "train" / "cat" / "0002.png").with_suffix(suffix)
    noise = np.random.RandomState(0).randint(0, 256, (8, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-80] if isinstance(content, str) else content)
    with pytest.raises(DatasetError, match=rf"cat.0002{suffix} is no readable image.*Replace or delete"):
        load(folder)
    assert not list(cache.iterdir())


@pytest.mark.parametrize("missing", ["", "train", "test"])
def test_a_missing_folder_is_named(folder: Path, missing: str) -> None:
    (folder / missing).rename(folder.parent / "elsewhere")
    with pytest.raises(DatasetError, match=f"there is no folder {folder / missing}.*Expected .*train/<class>"):
        load(folder)


def test_a_part_needs_class_folders(folder: Path) -> None:
    (folder / "test" / "cat").rename(folder / "cat")
    (folder / "test" / "dog").rename(folder / "dog")
    with pytest.raises(DatasetError, match="test has no class folders"):
        load(folder)


def test_a_class_needs_images(folder: Path) -> None:
    (folder / "train" / "emu").mkdir()
    with pytest.raises(DatasetError, match=r"emu has no images.*remove the folder"):
        load(folder)


def test_both_parts_need_the_same_classes(folder: Path) -> None:
    save(folder / "test" / "emu" / "0000.png", (0, 0, 0))
    with pytest.raises(DatasetError, match="same class folders; only one of them has 'emu'"):
        load(folder)


def test_a_cache_that_cannot_be_made_is_named(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "file"))
    with pytest.raises(DatasetError, match=r"cannot be kept in .*Not a directory.*set SECATEUR_CACHE"):
        load(folder)


def test_a_full_disk_leaves_nothing_behind(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(decoding.os, "fsync", full)
    with pytest.raises(DatasetError, match=r"No space left on device.*Make room"):
        load(folder)
    assert not list(cache.iterdir())
