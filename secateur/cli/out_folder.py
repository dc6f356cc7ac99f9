"""`--out DIR`: where the files of a command go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from secateur.errors import InputError


def write_files(folder: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files, by name, into a folder that is made if need be; of none, find out whether it can be made.

    Raises:
        InputError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as exc:
        raise InputError(f"--out {folder}: cannot be written: {exc}.") from exc
