"""The report of a study, from its records alone: HTML, Markdown, PNG and plain rows.

What a name needs is imported when it is first used: Markdown and rows need neither plotly nor matplotlib.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from secateur.report.markdown import render_markdown
    from secateur.report.model_card import render_model_card
    from secateur.report.page import render_html
    from secateur.report.png import render_pareto_png
    from secateur.report.rows import leaderboard_rows, summary_line

__all__ = [
    "leaderboard_rows",
    "render_html",
    "render_markdown",
    "render_model_card",
    "render_pareto_png",
    "summary_line",
]

_MODULES = {
    "leaderboard_rows": "rows",
    "render_html": "page",
    "render_markdown": "markdown",
    "render_model_card": "model_card",
    "render_pareto_png": "png",
    "summary_line": "rows",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
