"""The frame of every page: one HTML file that needs no network, and runs no script but its own."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import html
import importlib.resources
import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

from secateur.report.chart import Entry, Symbol
from secateur.report.plotly_drawing import plotly_script

Tile = tuple[str, str, str]
"""Title, figure, note: plain texts."""


def html_page(
    *, overline: str, name: str, what: str, headline: str, tiles: Sequence[Tile], sections: Sequence[str], footer: str
) -> str:
    """Return a self-contained page of about 2 MB; all but `sections` are plain texts."""
    script, plotly = _asset("report.js"), plotly_script()
    return string.Template(_asset("page.html")).substitute(
        policy=_policy([plotly, script]),
        overline=html.escape(overline),
        name=html.escape(name),
        style=_asset("report.css"),
        what=html.escape(what),
        headline=html.escape(headline),
        tiles=_tiles(tiles),
        sections="\n".join(sections),
        footer=html.escape(footer),
        plotly=_packed(plotly),
        script=script,
    )


def section(title: str, content: str) -> str:
    """Return a section; both are HTML."""
    return f"<section><h2>{title}</h2>{content}</section>"


def contents(groups: Sequence[str]) -> str:
    """Return links to groups of sections."""
    links = "".join(f'<a href="#{_anchor(name)}">{html.escape(name)}</a>' for name in groups)
    return f'<nav aria-label="Contents">{links}</nav>'


def group(name: str) -> str:
    """Return the heading of the sections that follow."""
    return f'<p class="group" id="{_anchor(name)}" role="heading" aria-level="2">{html.escape(name)}</p>'


_SYMBOLS: Mapping[Symbol | None, str] = {
    "circle": "●",
    "circle-open": "○",
    "circle-open-dot": "◉",
    "diamond": "◆",
    "hexagon-open": "⬡",
    "hexagram": "✶",
    "square": "■",
    "star": "★",
    "triangle-down": "▼",
    "x": "✕",
    None: "▬",
}


def legend(entries: Sequence[Entry]) -> str:
    """Return a legend for several plots."""
    items = "".join(
        f'<li><span style="color:{color}" aria-hidden="true">{_SYMBOLS[symbol]}</span> {html.escape(name)}</li>'
        for name, color, symbol in entries
    )
    return f'<ul class="legend">{items}</ul>' if items else ""


def _anchor(name: str) -> str:
    return name.lower().replace(" ", "-")


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
    drawing = plot_area(name, figure, description=description, buttons=buttons)
    return section(html.escape(title), f'{drawing}<p class="note">{html.escape(note)}</p>')


def plot_area(name: str, figure: Mapping[str, Any], *, description: str, buttons: str = "", height: str = "") -> str:
    """Return a plotly figure without a section of its own.

    Args:
        name: An identifier, once a page.
        figure: As plotly's JSON.
        description: For those who cannot see it.
        buttons: HTML above the plot.
        height: As CSS writes it; by default that of all plots.
    """
    style = f' style="height:{height}"' if height else ""
    return (
        f'<div class="plot-bar">{buttons}</div>'
        f'<div class="plot" id="{name}" data-figure="{name}-data" role="img"{style}'
        f' aria-label="{html.escape(description)}"></div>'
        f"{data_island(f'{name}-data', figure)}"
        f"<noscript><p>The plot needs JavaScript; a table below holds the same figures.</p></noscript>"
    )


def data_island(name: str, value: Any) -> str:
    """Return JSON for the page's script."""
    data = json.dumps(value, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{data}</script>'


def _asset(name: str) -> str:
    return (importlib.resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """Return a policy under which nothing is loaded and nothing runs but `scripts`, whatever a record contains."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


@functools.cache
def _packed(script: str) -> str:
    """Return a script as the page's own script unpacks it: compressed, it takes 2 MB instead of 5."""
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()


def _tiles(tiles: Sequence[Tile]) -> str:
    items = (
        f'<div><dt>{html.escape(title)}</dt><dd class="figure">{html.escape(figure)}</dd>'
        f"<dd><small>{html.escape(note)}</small></dd></div>"
        for title, figure, note in tiles
    )
    return f'<dl class="tiles">{"".join(items)}</dl>'
