"""Example schedules, studies and device profiles: in a checkout beside the package, in a wheel inside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_ROOT = bundled if (bundled := _PACKAGE / "_resources").is_dir() else _PACKAGE.parent


def find(name: str) -> Path:
    """Return the path of a shipped file or folder, such as ``infra/devices``."""
    return _ROOT / name


def here_or_shipped(path: Path) -> Path:
    """Return the path of a file that a user named: here, or else a shipped one."""
    shipped = find(str(path))
    return shipped if not path.is_absolute() and not path.exists() and shipped.exists() else path
