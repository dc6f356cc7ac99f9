"""Image files decoded: once, and mapped into memory from then on; or batch by batch, as they are asked for."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import uuid
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
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

_BATCHES_AHEAD = 3
"""Batches that are being decoded while one is in use."""

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


def decode_batches(
    batches: Iterable[Sequence[ImageFile]], size: int | None, shape_HW: tuple[int, int]
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield batch after batch of images, N x H x W x 3, while threads decode the next ones.

    Args:
        batches: Of any number of files each.
        size: See `decode_once`.
        shape_HW: What every image must be.

    Raises:
        DatasetError: A file is no image, or of another size.
    """
    with ThreadPoolExecutor(thread_name_prefix="decoding") as pool:
        ahead: deque[list[Future[npt.NDArray[np.uint8] | DatasetError]]] = deque()
        try:
            for files in batches:
                ahead.append([pool.submit(_decode_as, file.path, size, shape_HW) for file in files])
                if len(ahead) > _BATCHES_AHEAD:
                    yield _stacked(ahead.popleft())
            while ahead:
                yield _stacked(ahead.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def _stacked(decoded: Sequence[Future[npt.NDArray[np.uint8] | DatasetError]]) -> npt.NDArray[np.uint8]:
    images_HWC = []
    for future in decoded:
        image_HWC = future.result()
        if isinstance(image_HWC, DatasetError):
            raise image_HWC
        images_HWC.append(image_HWC)
    return np.stack(images_HWC)


def _decode_as(path: Path, size: int | None, shape_HW: tuple[int, int]) -> npt.NDArray[np.uint8] | DatasetError:
    image_HWC = _decode(path, size)
    if isinstance(image_HWC, DatasetError) or image_HWC.shape[:2] == shape_HW:
        return image_HWC
    return _of_another_size(path, image_HWC, shape_HW)


def decoded_shape(files: Sequence[ImageFile], size: int | None, *, skip_unreadable: bool) -> tuple[int, int]:
    """Return the height and width that images will have: those of the first that can be read.

    Raises:
        DatasetError: A file is no image, or none is.
    """
    if size is not None:
        return size, size
    for file in files:
        try:
            with Image.open(file.path) as image:  # reads the header alone
                return image.height, image.width
        except _UNREADABLE as exc:
            if not skip_unreadable:
                raise _unreadable(file.path, exc) from exc
    raise _none_readable(files)


def find_unreadable(files: Sequence[ImageFile], size: int | None) -> tuple[int, ...]:
    """Return the indices of files that are no images, each of which is told; what the last time found is remembered.

    Raises:
        DatasetError: None is an image, or the cache cannot be written.
    """
    folder = cache_folder() / "imagefolder"
    target = folder / f"{_digest(files, size, skip_unreadable=True)}.unreadable.json"
    try:
        if target.exists():
            return tuple(json.loads(target.read_text(encoding="utf-8")))
        unreadable = []
        with progress.track(f"look through {len(files)} images", total=len(files)) as bar:
            for index, image_HWC in enumerate(_decoded(files, size)):
                bar.advance()
                if isinstance(image_HWC, DatasetError):
                    progress.message(f"{image_HWC} It was skipped.")
                    unreadable.append(index)
        if len(unreadable) == len(files):
            raise _none_readable(files)
        folder.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        beside.write_text(json.dumps(unreadable), encoding="utf-8")
        beside.replace(target)
    except OSError as exc:
        raise DatasetError(
            f"dataset imagefolder: {target} cannot be written: {exc}. Make room, or set SECATEUR_CACHE to a folder"
            " with more."
        ) from exc
    return tuple(unreadable)


def _none_readable(files: Sequence[ImageFile]) -> DatasetError:
    return DatasetError(f"dataset imagefolder: none of the {len(files)} files can be read as an image.")


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
                raise _of_another_size(files[index].path, image_HWC, expected)
            out.write(image_HWC.data)
    if expected is None:
        raise _none_readable(files)
    shape = (len(files) - len(skipped), *expected)
    out.seek(0)
    _write_header(out, shape)  # numpy leaves room for any number of images
    return shape, skipped


def _unreadable(path: Path, problem: Exception) -> DatasetError:
    return DatasetError(
        f"dataset imagefolder: {path} is no readable image: {problem}. Replace or delete it, or set"
        " dataset.skip_unreadable."
    )


def _of_another_size(path: Path, image_HWC: npt.NDArray[np.uint8], expected: tuple[int, ...]) -> DatasetError:
    return DatasetError(
        f"dataset imagefolder: {path} is {image_HWC.shape[1]} x {image_HWC.shape[0]} pixels,"
        f" the images before it {expected[1]} x {expected[0]}. Set dataset.input_size to resize all."
    )


def _write_header(out: BinaryIO, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_2_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})


def _decoded(files: Sequence[ImageFile], size: int | None) -> Iterator[npt.NDArray[np.uint8] | DatasetError]:
    """Decode in threads (Pillow lets them run side by side); yield in the order of `files`."""
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    with ThreadPoolExecutor(thread_name_prefix="decoding") as pool:
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
        return _unreadable(path, exc)
    if size is not None and rgb.size != (size, size):
        rgb = ImageOps.fit(rgb, (size, size), Image.Resampling.BILINEAR)
    return np.asarray(rgb, dtype=np.uint8)
