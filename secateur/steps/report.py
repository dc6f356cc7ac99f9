"""Write a study's report."""

from __future__ import annotations

from secateur.report import render_html, render_markdown, render_pareto_png
from secateur.results import StudyResults
from secateur.store import StudyFiles


def write_report(files: StudyFiles, results: StudyResults) -> None:
    """Write the report into the store: one HTML page, Markdown, and the plot."""
    files.write_report("report.html", render_html(results).encode())
    files.write_report("report.md", render_markdown(results).encode())
    files.write_report("pareto.png", render_pareto_png(results))
