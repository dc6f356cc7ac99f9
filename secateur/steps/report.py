"""Write a study's report."""

from __future__ import annotations

import importlib.util
from concurrent.futures import ThreadPoolExecutor

from secateur import report
from secateur.insight import Insight, NoInsight
from secateur.leaderboard import leaderboard
from secateur.report.chart import Figure
from secateur.report.facts import Facts
from secateur.report.figures import NOT_ASKED
from secateur.results import StudyResults
from secateur.search.insight import ask_for_insight, is_current
from secateur.store import StudyFiles


def write_report(files: StudyFiles, results: StudyResults, *, has_all_images: bool = False) -> Insight | NoInsight:
    """Write the report into the store, in place of an earlier one: a page, Markdown, images, tables.

    Args:
        files: Of the study.
        results: All its records.
        has_all_images: Draw every figure as a PNG, for the Markdown; by default the first alone.

    Returns:
        What the optimiser's model says, or why there is none.
    """
    facts = report.gather(results)
    with ThreadPoolExecutor(1) as pool:  # while Ax is asked, what does not depend on it is drawn
        asked = pool.submit(insight_of, files, results)
        drawn = {f.name: report.render_png(f) for f in _images(facts, NOT_ASKED, has_all=has_all_images)}
    insight = asked.result()
    images = _images(facts, insight, has_all=has_all_images)
    drawn |= {figure.name: report.render_png(figure) for figure in images if figure.name not in drawn}
    contents = {
        "report.html": report.render_html(results, insight).encode(),
        "report.md": report.render_markdown(results, images).encode(),
        **{f"{name}.png": png for name, png in drawn.items()},
        "trials.csv": report.render_csv(results).encode(),
    }
    if importlib.util.find_spec("pyarrow"):
        contents["trials.parquet"] = report.render_parquet(results)
    files.write_report(contents)
    return insight


def _images(facts: Facts, insight: Insight | NoInsight, *, has_all: bool) -> list[Figure]:
    figures = [f for group in report.study_figures(facts, insight).values() for f in group]
    return [f for f in (figures if has_all else [report.first_figure(facts)]) if isinstance(f, Figure)]


def insight_of(files: StudyFiles, results: StudyResults) -> Insight | NoInsight:
    """Return what the optimiser's model says around the best trial, or why there is none; it is asked once."""
    known = files.read_insight()
    if known is not None and is_current(known, results):
        return known
    rows = leaderboard(results)
    insight = ask_for_insight(results, rows[0].record.parameters if rows else {})
    if isinstance(insight, Insight):
        files.write_insight(insight)
    return insight
