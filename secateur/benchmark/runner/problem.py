"""What can go wrong, as the protocol says it."""

from __future__ import annotations


class RunnerError(Exception):
    """What the one who asked must know; `kind` is one of the protocol's."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


def reason(error: Exception) -> str:
    """Return the last line of OpenVINO's message; those before it name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)
