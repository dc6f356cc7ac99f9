from __future__ import annotations

import hashlib
import pickle
import tarfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from torchvision.datasets import CIFAR10, CIFAR100

from secateur.config import Dataset
from secateur.datasets import load_splits
from secateur.errors import DatasetError

NUM_IMAGES = 12


@pytest.fixture
def made_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with both archives: CIFAR's own format, few images, and the checksums torchvision wants."""
    for kind, label_key in ((CIFAR10, "labels"), (CIFAR100, "fine_labels")):
        made = tmp_path / "made" / kind.base_folder
        made.mkdir(parents=True)
        for lists in (kind.train_list, kind.test_list):
            entries = []
            for seed, (name, _) in enumerate(lists):
                pixels = np.random.RandomState(seed).randint(0, 256, (NUM_IMAGES, 3072), dtype=np.uint8)
                entries.append([name, dump(made / name, {"data": pixels, label_key: [*range(10), 0, 1]})])
            monkeypatch.setattr(kind, "train_list" if lists is kind.train_list else "test_list", entries)
        names = {kind.meta["key"]: [f"class {i}" for i in range(10)]}
        monkeypatch.setattr(kind, "meta", kind.meta | {"md5": dump(made / kind.meta["filename"], names)})
        archive = tmp_path / "made" / kind.filename
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(made, kind.base_folder)
        monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
        monkeypatch.setattr(kind, "url", f"http://127.0.0.1:9/{kind.filename}")  # nobody listens there
    return tmp_path / "made"


def dump(path: Path, content: dict[str, object]) -> str:
    path.write_bytes(pickle.dumps(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


@pytest.fixture
def server(made_up: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(made_up))) as http:
        Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        for kind in (CIFAR10, CIFAR100):
            monkeypatch.setattr(kind, "url", f"http://127.0.0.1:{http.server_port}/{kind.filename}")
        yield
        http.shutdown()


@pytest.mark.parametrize(("name", "num_train"), [("cifar10", 60), ("cifar100", 12)])
def test_cifar_is_read_where_it_is(made_up: Path, name: str, num_train: int) -> None:
    splits = load_splits(Dataset(name=name, root=made_up, validation=2))
    assert (len(splits.train), len(splits.validation), len(splits.test)) == (num_train - 2, 2, NUM_IMAGES)
    assert (splits.input_size, splits.num_classes, splits.is_flippable) == (32, 10, True)
    pixels = np.random.RandomState(0).randint(0, 256, (NUM_IMAGES, 3, 32, 32), dtype=np.uint8)
    assert (splits.test.images_NHWC.numpy() == pixels.transpose(0, 2, 3, 1)).all()
    assert splits.test.labels_N.tolist() == [*range(10), 0, 1]


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_downloaded_on_first_use(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path / "cache"))
    for _ in range(2):
        assert len(load_splits(Dataset(name=name)).test) == NUM_IMAGES
        monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:9/")
        monkeypatch.setattr(CIFAR100, "url", "http://127.0.0.1:9/")
    assert [path.name for path in (tmp_path / "cache" / "data").iterdir()] == [
        f"cifar-{name[5:]}-" + ("batches-py" if name == "cifar10" else "python")
    ]
    assert capfd.readouterr() == ("", "")


def test_an_archive_that_was_put_there_is_enough(made_up: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (made_up / CIFAR10.filename).rename(root / CIFAR10.filename)
    assert len(load_splits(Dataset(name="cifar10", root=root)).test) == NUM_IMAGES


@pytest.mark.usefixtures("made_up")
def test_offline_it_says_what_to_do(tmp_path: Path) -> None:
    root = tmp_path / "root"
    expected = rf"127.0.0.1:9/.* could not be fetched: .*Connection refused.*cifar-10-batches-py.* in {root}.*digits"
    with pytest.raises(DatasetError, match=expected):
        load_splits(Dataset(name="cifar10", root=root))
    assert not list(root.iterdir())


@pytest.mark.usefixtures("server")
def test_a_damaged_download_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(CIFAR10, "tgz_md5", "0" * 32)
    with pytest.raises(DatasetError, match="could not be fetched: the download's checksum is not 000"):
        load_splits(Dataset(name="cifar10", root=tmp_path / "root"))
    assert not list((tmp_path / "root").iterdir())


def test_damaged_files_are_named(made_up: Path) -> None:
    (made_up / CIFAR10.base_folder / "test_batch").write_bytes(b"")
    with pytest.raises(DatasetError, match="cifar-10-batches-py is incomplete or damaged; delete it"):
        load_splits(Dataset(name="cifar10", root=made_up))
