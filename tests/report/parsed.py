"""A report's page, read with the standard library's parser."""

from __future__ import annotations

import base64
import gzip
import json
from html.parser import HTMLParser
from typing import Any

VOID = {"meta", "link", "wbr", "br"}


class Page(HTMLParser):
    """A parsed page; every element must be closed, and in order.

    Attributes:
        elements: Each element's tag and attributes.
        scripts: What is run.
        plotly: What is run besides, once it is unpacked.
        figures: What the JSON beside each plot holds, by the id of its element.
        hovers: What is told of each record where the pointer is, by label.
        titles: The columns of the table of trials.
        rows: The texts of all rows of that table, by the label of the record, one list of cells for each row.
    """

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.plotly = ""
        self.figures: dict[str, Any] = {}
        self.hovers: dict[str, str] = {}
        self.titles: list[str] = []
        self.rows: dict[str, list[list[str]]] = {}
        self._texts: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._cells: list[str] | None = None
        self.feed(page)
        self.close()
        assert not self._open, f"never closed: {self._open}"

    @property
    def text(self) -> str:
        """Everything that can be read on the page."""
        return " ".join(" ".join(self._texts).split())

    def cell(self, label: str, title: str) -> str:
        """Return a cell of the table of trials."""
        (cells,) = self.rows[label]
        return cells[self.titles.index(title)].strip()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self._open.append((tag, attributes))
        if tag == "script" and "type" not in attributes:
            self.scripts.append("")
        elif tag == "button" and "data-column" in attributes:
            self.titles.append("")
        elif tag == "tr":
            self._cells = None
            if (label := attributes.get("data-label")) is not None:
                self._cells = []
                self.rows.setdefault(label, []).append(self._cells)
        elif tag in {"td", "th"} and self._cells is not None:
            self._cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open[-1][0] == tag, f"</{tag}> closes <{self._open[-1][0]}>"
        self._open.pop()
        if tag == "table":
            self._cells = None

    def handle_data(self, data: str) -> None:
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag == "script" and "type" in attributes:
            if attributes["id"] == "plotly":
                self.plotly = gzip.decompress(base64.b64decode(data)).decode()
                return
            value = json.loads(data, parse_constant=_refuse)
            if attributes["id"] == "records":
                self.hovers = value
            else:
                self.figures[str(attributes["id"])] = value
        elif tag == "script":
            self.scripts[-1] += data
        elif tag != "style":
            self._texts.append(data)
            if tag == "button" and "data-column" in attributes:
                self.titles[-1] += data
            if self._cells:
                self._cells[-1] += data


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} in a figure")
