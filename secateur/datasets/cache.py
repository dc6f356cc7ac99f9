"""Where downloads and decoded images are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return ``$SECATEUR_CACHE``, by default ``~/.cache/secateur``."""
    return Path(os.environ.get("SECATEUR_CACHE") or "~/.cache/secateur").expanduser()
