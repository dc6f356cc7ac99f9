"""The frame of every page: one HTML file that needs no network, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

from secateur.report.figures import plotly_script

Tile = tuple[str, str, str]
"""Title, figure, note: plain texts."""


def html_page(
    *, overline: str, name: str, what: str, headline: str, tiles: Sequence[Tile], sections: Sequence[str], footer: str
) -> str:
    """Return a self-contained page of about 5 MB; all but `sections` are plain texts."""
    scripts = [plotly_script(), _asset("report.js")]
    return string.Template(_asset("page.html")).substitute(
        policy=_policy(scripts),
        overline=html.escape(overline),
        name=html.escape(name),
        style=_asset("report.css"),
        what=html.escape(what),
        headline=html.escape(headline),
        tiles=_tiles(tiles),
        sections="\n".join(sections),
        footer=html.escape(footer),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def section(title: str, content: str) -> str:
    """Return a section; both are HTML."""
    return f"<section><h2>{title}</h2>{content}</section>"


def plot(
    name: str, title: str, figure: Mapping[str, Any], *, description: str, buttons: str = "", note: str = ""
) -> str:
    """Return a section with a plotly figure.

    Args:
        name: An identifier, once a page.
        title: Of the section.
        figure: As plotly's JSON; fonts and grid take the page's colours when it is shown.
        description: For those who cannot see it.
        buttons: HTML above the plot.
        note: Below it.
    """
    data = json.dumps(figure, allow_nan=False).replace("<", "\\u003c")
    content = (
        f'<div class="plot-bar">{buttons}</div>'
        f'<div class="plot" id="{name}" data-figure="{name}-data" role="img"'
        f' aria-label="{html.escape(description)}"></div>'
        f'<script type="application/json" id="{name}-data">{data}</script>'
        f"<noscript><p>The plot needs JavaScript; a table below holds the same figures.</p></noscript>"
        f'<p class="note">{html.escape(note)}</p>'
    )
    return section(html.escape(title), content)


def _asset(name: str) -> str:
    return (importlib.resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """Return a policy under which nothing is loaded and nothing runs but `scripts`, whatever a record contains."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _tiles(tiles: Sequence[Tile]) -> str:
    items = (
        f'<div><dt>{html.escape(title)}</dt><dd class="figure">{html.escape(figure)}</dd>'
        f"<dd><small>{html.escape(note)}</small></dd></div>"
        for title, figure, note in tiles
    )
    return f'<dl class="tiles">{"".join(items)}</dl>'
