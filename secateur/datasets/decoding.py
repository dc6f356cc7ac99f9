"""Image files decoded once, and mapped into memory from then on."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import uuid
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from secateur import progress
from secateur.datasets.cache import cache_folder
from secateur.errors import DatasetError

_FORMAT = 2
"""To be raised when decoding changes, so that older caches are not used."""

_CHUNK = 64
"""Files a thread decodes at a time."""

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for damaged files."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFile:
    """One file of ``<part>/<class>/<name>``, and what tells that it is still the same."""

    class_folder: Path
    name: str
    num_bytes: int
    mtime_ns: int

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.class_folder / self.name


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """The images of many files."""

    images_NHWC: npt.NDArray[np.uint8]
    """RGB, mapped copy-on-write; in the order of the files."""
    skipped: tuple[int, ...]
    """Indices of the files that are no images and were left out."""


def decode_once(files: Sequence[ImageFile], size: int | None, *, skip_unreadable: bool) -> Decoded:
    """Decode all files, or map the result of the last time.

    Args:
        files: At least one.
        size: Height and width in pixels: the shorter side is scaled to it, the longer cropped around the centre.
            None: the files' own, which must be the same for all.
        skip_unreadable: Leave out what is no image.

    Raises:
        DatasetError: A file is no image or of another size, none is left, or the cache cannot be written.
    """
    folder = cache_folder() / "imagefolder"
    target = folder / f"{_digest(files, size, skip_unreadable)}.npy"
    try:
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_atomically(files, size, skip_unreadable, target)
        # Copy-on-write rather than read-only: torch wants memory it could write.
        images_NHWC: npt.NDArray[np.uint8] = np.load(target, mmap_mode="c")
        skipped = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))["skipped"]
    except OSError as exc:
        raise DatasetError(
            f"dataset imagefolder: decoded images cannot be kept in {folder}: {exc}."
            " Make room, or set SECATEUR_CACHE to a folder with more."
        ) from exc
    return Decoded(images_NHWC=images_NHWC, skipped=tuple(skipped))


def _digest(files: Sequence[ImageFile], size: int | None, skip_unreadable: bool) -> str:
    digest = hashlib.sha256(repr((_FORMAT, size, skip_unreadable)).encode())
    for file in files:
        digest.update(repr((file.class_folder.name, file.name, file.num_bytes, file.mtime_ns)).encode())
    return digest.hexdigest()


def _write_atomically(files: Sequence[ImageFile], size: int | None, skip_unreadable: bool, target: Path) -> None:
    """Decode into a temporary file, renamed when complete; of two processes the later wins, with equal content."""
    temporary = target.with_name(f".decoding-{uuid.uuid4().hex}")
    told = temporary.with_suffix(".json")
    try:
        with temporary.open("xb") as out:
            shape, skipped = _decode_all(files, size, skip_unreadable, out)
            out.flush()
            os.fsync(out.fileno())
        folder = str(files[0].class_folder.parent.absolute())
        meta = {"folder": folder, "shape": shape, "input_size": size, "skipped": skipped}
        told.write_text(json.dumps(meta), encoding="utf-8")
        told.replace(target.with_suffix(".json"))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
        told.unlink(missing_ok=True)


def _decode_all(
    files: Sequence[ImageFile], size: int | None, skip_unreadable: bool, out: BinaryIO
) -> tuple[tuple[int, ...], list[int]]:
    """Write one .npy sequentially (a full disk is then an error, not the SIGBUS a mapped file gives).

    Returns:
        Its shape, and the indices of the files that were left out.
    """
    expected: tuple[int, ...] | None = None
    skipped: list[int] = []
    with progress.track(f"decode {len(files)} images", total=len(files)) as bar:
        for index, image_HWC in enumerate(_decoded(files, size)):
            bar.advance()
            if isinstance(image_HWC, DatasetError):
                if not skip_unreadable:
                    raise image_HWC
                progress.message(f"{image_HWC} It was skipped.")
                skipped.append(index)
                continue
            if expected is None:
                expected = image_HWC.shape
                _write_header(out, (len(files), *expected))
            if image_HWC.shape != expected:
                raise DatasetError(
                    f"dataset imagefolder: {files[index].path} is {image_HWC.shape[1]} x {image_HWC.shape[0]} pixels,"
                    f" the images before it {expected[1]} x {expected[0]}. Set dataset.input_size to resize all."
                )
            out.write(image_HWC.data)
    if expected is None:
        raise DatasetError(f"dataset imagefolder: none of the {len(files)} files can be read as an image.")
    shape = (len(files) - len(skipped), *expected)
    out.seek(0)
    _write_header(out, shape)  # numpy leaves room for any number of images
    return shape, skipped


def _write_header(out: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_2_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _decoded(files: Sequence[ImageFile], size: int | None) -> Iterator[npt.NDArray[np.uint8] | DatasetError]:
    """Decode in threads (Pillow lets them run side by side); yield in the order of `files`."""
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor() as pool:
        try:
            for images in pool.map(partial(_decode_chunk, size=size), chunks):
                yield from images
        finally:
            pool.shutdown(cancel_futures=True)


def _decode_chunk(chunk: Sequence[ImageFile], size: int | None) -> list[npt.NDArray[np.uint8] | DatasetError]:
    return [_decode(file.path, size) for file in chunk]


def _decode(path: Path, size: int | None) -> npt.NDArray[np.uint8] | DatasetError:
    """Return an image, or what is wrong with its file."""
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except _UNREADABLE as exc:
        return DatasetError(
            f"dataset imagefolder: {path} is no readable image: {exc}. Replace or delete it, or set"
            " dataset.skip_unreadable."
        )
    if size is not None and rgb.size != (size, size):
        rgb = ImageOps.fit(rgb, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb, dtype=np.uint8)
