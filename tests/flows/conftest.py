"""Commands typed in this process: see `tests.cli`."""

from __future__ import annotations

from tests.cli.conftest import secateur

__all__ = ["secateur"]
