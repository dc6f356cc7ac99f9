"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009), as torchvision reads them; downloaded on first use."""

from __future__ import annotations

import tempfile
import urllib.request
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import CIFAR10, CIFAR100
from torchvision.datasets.utils import check_integrity, extract_archive

from secateur import progress
from secateur.config import Dataset, Normalize
from secateur.datasets.cache import cache_folder
from secateur.datasets.splits import DEFAULT_INPUT_SIZE, ImageSet, Parts
from secateur.errors import DatasetError

_KINDS = {
    "cifar10": (CIFAR10, Normalize(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))),
    "cifar100": (CIFAR100, Normalize(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762))),
}
_TIMEOUT_S = 30.0
_BLOCK_BYTES = 1 << 20


def read_cifar(dataset: Dataset) -> Parts:
    """Read CIFAR-10 or CIFAR-100 from `dataset.root`, downloading it first if it is not there.

    Raises:
        DatasetError: It cannot be downloaded, or the files are damaged.
    """
    kind, normalize = _KINDS[dataset.name]
    root = dataset.root or cache_folder() / "data"
    if not (root / kind.base_folder).is_dir():
        try:
            _fetch(kind, root)
        except (OSError, RuntimeError) as exc:  # URLError is an OSError
            raise DatasetError(
                _how_to_get(dataset.name, kind, root, f"{kind.url} could not be fetched: {exc}")
            ) from exc
    try:
        train, test = (kind(root, train=is_train) for is_train in (True, False))
    except (OSError, RuntimeError) as exc:
        problem = f"{root / kind.base_folder} is incomplete or damaged"
        raise DatasetError(_how_to_get(dataset.name, kind, root, f"{problem}; delete it")) from exc
    size = dataset.input_size or DEFAULT_INPUT_SIZE
    return Parts(
        train=_image_set(train).resized(size),
        test=_image_set(test).resized(size),
        test_numbers_N=np.arange(len(test)),
        class_names=tuple(test.classes),
        normalize=normalize,
    )


def _image_set(data: CIFAR10) -> ImageSet:
    images_NHWC = torch.from_numpy(np.ascontiguousarray(data.data))
    return ImageSet(images_NHWC=images_NHWC, labels_N=torch.tensor(data.targets, dtype=torch.int64))


def _how_to_get(name: str, kind: type[CIFAR10], root: Path, problem: str) -> str:
    return (
        f"dataset {name}: {problem}. Expected the folder {kind.base_folder} (or the archive {kind.filename})"
        f" in {root}. Put it there, or set dataset.root to where it is; 'digits' needs no download."
    )


def _fetch(kind: type[CIFAR10], root: Path) -> None:
    """Bring the extracted folder to `root`: complete or not at all, whoever else does the same."""
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as folder:
        archive = root / kind.filename
        if not check_integrity(archive, kind.tgz_md5):
            archive = Path(folder, kind.filename)
            _download(kind.url, archive)
            if not check_integrity(archive, kind.tgz_md5):
                raise OSError(f"the download's checksum is not {kind.tgz_md5}")
        extract_archive(archive, folder)
        try:
            Path(folder, kind.base_folder).rename(root / kind.base_folder)
        except OSError:
            if not (root / kind.base_folder).is_dir():  # else another process was faster
                raise


def _download(url: str, path: Path) -> None:
    with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as response, path.open("wb") as file:  # noqa: S310 (torchvision's)
        total = float(response.headers.get("Content-Length", 0)) or None
        with progress.track(f"download {path.name}", total=total) as bar:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                bar.advance(len(block))
