"""What may be a key: the same in every store, so that a study can move from one to another."""

from __future__ import annotations

from secateur.errors import InputError

TEMPORARY = ".tmp"
"""The folder where a directory store keeps unfinished writes; no key begins with it."""

_MAX_SEGMENT_BYTES = 255  # of a file name
_MAX_KEY_BYTES = 1024  # of an S3 object


def check_key(key: str) -> None:
    """Check that `key` stays inside a store, and is a name that a file and an S3 object can have.

    Raises:
        InputError: It is not.
    """
    segments = key.split("/")
    problem = None
    if not key.isprintable() or "\\" in key:
        problem = "it holds a backslash or a character that cannot be printed"
    elif not key:
        problem = "it is empty"
    elif key.startswith("/"):
        problem = "it is absolute"
    elif not all(segments):
        problem = "there is nothing between two slashes, or after the last"
    elif {".", ".."} & set(segments):
        problem = "'.' and '..' lead elsewhere"
    elif segments[0] == TEMPORARY:
        problem = f"{TEMPORARY!r} is where unfinished writes are"
    elif len(key.encode()) > _MAX_KEY_BYTES or any(len(s.encode()) > _MAX_SEGMENT_BYTES for s in segments):
        problem = f"at most {_MAX_KEY_BYTES} bytes are allowed, and {_MAX_SEGMENT_BYTES} between two slashes"
    if problem:
        raise InputError(
            f"{key!r} cannot be a key of a store: {problem}."
            " Expected a relative path such as 'studies/demo/study.yaml'."
        )


def check_prefix(prefix: str) -> None:
    """Check what keys are listed by: the beginning of a key, or nothing.

    Raises:
        InputError: No key begins so.
    """
    if prefix:
        check_key(prefix.removesuffix("/"))
