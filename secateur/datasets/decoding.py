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

_FORMAT = 1
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


def decode_once(files: Sequence[ImageFile], size: int | None) -> npt.NDArray[np.uint8]:
    """Decode all files, or map the result of the last time.

    Args:
        files: At least one.
        size: Height and width in pixels: the shorter side is scaled to it, the longer cropped around the centre.
            None: the files' own, which must be the same for all.

    Returns:
        N x H x W x 3, RGB, mapped copy-on-write.

    Raises:
        DatasetError: A file is no image or of another size, or the cache cannot be written.
    """
    folder = cache_folder() / "imagefolder"
    target = folder / f"{_digest(files, size)}.npy"
    try:
        if not target.exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_atomically(files, size, target)
        # Copy-on-write rather than read-only: torch wants memory it could write.
        images_NHWC: npt.NDArray[np.uint8] = np.load(target, mmap_mode="c")
    except OSError as exc:
        raise DatasetError(
            f"dataset imagefolder: decoded images cannot be kept in {folder}: {exc}."
            " Make room, or set SECATEUR_CACHE to a folder with more."
        ) from exc
    return images_NHWC


def _digest(files: Sequence[ImageFile], size: int | None) -> str:
    digest = hashlib.sha256(repr((_FORMAT, size)).encode())
    for file in files:
        digest.update(repr((file.class_folder.name, file.name, file.num_bytes, file.mtime_ns)).encode())
    return digest.hexdigest()


def _write_atomically(files: Sequence[ImageFile], size: int | None, target: Path) -> None:
    """Decode into a temporary file, renamed when complete; of two processes the later wins, with equal content."""
    temporary = target.with_name(f".decoding-{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as out:
            shape = _decode_all(files, size, out)
            out.flush()
            os.fsync(out.fileno())
        meta = {"folder": str(files[0].class_folder.parent.absolute()), "shape": shape, "input_size": size}
        target.with_suffix(".json").write_text(json.dumps(meta), encoding="utf-8")
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _decode_all(files: Sequence[ImageFile], size: int | None, out: BinaryIO) -> tuple[int, ...]:
    """Write one .npy sequentially (a full disk is then an error, not the SIGBUS a mapped file gives)."""
    expected: tuple[int, ...] | None = None
    with progress.track(f"decode {len(files)} images", total=len(files)) as bar:
        for file, image_HWC in _decoded(files, size):
            if expected is None:
                expected = image_HWC.shape
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(files), *expected)}
                np.lib.format.write_array_header_2_0(out, header)
            if image_HWC.shape != expected:
                raise DatasetError(
                    f"dataset imagefolder: {file.path} is {image_HWC.shape[1]} x {image_HWC.shape[0]} pixels, the"
                    f" images before it {expected[1]} x {expected[0]}. Set dataset.input_size to resize all."
                )
            out.write(image_HWC.data)
            bar.advance()
    assert expected is not None
    return (len(files), *expected)


def _decoded(files: Sequence[ImageFile], size: int | None) -> Iterator[tuple[ImageFile, npt.NDArray[np.uint8]]]:
    """Decode in threads (Pillow lets them run side by side); yield in the order of `files`."""
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor() as pool:
        try:
            for chunk, images in zip(chunks, pool.map(partial(_decode_chunk, size=size), chunks), strict=True):
                yield from zip(chunk, images, strict=True)
        finally:
            pool.shutdown(cancel_futures=True)


def _decode_chunk(chunk: Sequence[ImageFile], size: int | None) -> list[npt.NDArray[np.uint8]]:
    return [_decode(file.path, size) for file in chunk]


def _decode(path: Path, size: int | None) -> npt.NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            rgb = image.convert("RGB")
    except _UNREADABLE as exc:
        raise DatasetError(f"dataset imagefolder: {path} is no readable image: {exc}. Replace or delete it.") from exc
    if size is not None and rgb.size != (size, size):
        rgb = ImageOps.fit(rgb, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb, dtype=np.uint8)
