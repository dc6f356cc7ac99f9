"""All records as one table, for spreadsheets and data frames: CSV, and Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import io

from secateur.report.rows import record_rows
from secateur.results import StudyResults


def render_csv(results: StudyResults) -> str:
    """Return one line for each baseline and trial, best first; what is not known is empty."""
    rows = record_rows(results)
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]) if rows else ["trial"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()
