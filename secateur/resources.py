"""Example schedules, studies and device profiles: in a checkout beside the package, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_ROOT = bundled if (bundled := _PACKAGE / "_resources").is_dir() else _PACKAGE.parent


def find(name: str) -> Path:
    """Return the path of a shipped file or folder, such as ``infra/devices``."""
    return _ROOT / name
