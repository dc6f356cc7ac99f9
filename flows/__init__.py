"""Prefect flows: each file is a deployment, and reads as a list of steps.

`run_study`, `run_baseline`, `run_champion` and `run_remeasure` run one from Python. They are imported when they are
first used: an edge host, which has neither torch nor Ax, imports this package too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flows.local_run import run_baseline, run_champion, run_remeasure, run_study

__all__ = ["run_baseline", "run_champion", "run_remeasure", "run_study"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module("flows.local_run"), name)
