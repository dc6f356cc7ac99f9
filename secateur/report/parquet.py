"""All records as a Parquet file."""

from __future__ import annotations

import io
from typing import Any

import pyarrow
import pyarrow.parquet

from secateur.report.rows import record_rows
from secateur.results import StudyResults


def render_parquet(results: StudyResults) -> bytes:
    """Return the rows of `render_csv`; a column of several types holds texts if one value is a text, else floats."""
    rows = record_rows(results)
    names = list(rows[0]) if rows else ["trial"]
    table = pyarrow.table({name: _column([row[name] for row in rows]) for name in names})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def _column(values: list[Any]) -> list[Any]:
    kinds = {type(value) for value in values if value is not None}
    if len(kinds) < 2:
        return values
    kind = str if str in kinds else float
    return [None if value is None else kind(value) for value in values]
