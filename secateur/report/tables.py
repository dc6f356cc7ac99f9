"""The page's plain tables, as HTML; whatever comes from a record is escaped here."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from secateur.report.circumstances import PhaseTime
from secateur.report.comparison import TextTable
from secateur.report.correlation import Correlation, ValueMeans
from secateur.report.facts import Facts
from secateur.report.formats import ABSENT, duration_text, metric_text, parameter_text, title_of

_POSITIVE, _NEGATIVE = "242 113 28", "58 122 229"
"""Colours of correlations, as CSS writes them: orange and blue, distinguishable for the colour-blind."""


def text_table(caption: str, columns: Sequence[str], lines: TextTable) -> str:
    """Return a table of texts with a title in front of each row."""
    cells = [(title, [f'<td class="number">{html.escape(text)}</td>' for text in texts]) for title, texts in lines]
    return html_table(caption, columns, cells, "compared")


def breakable(text: str) -> str:
    """Escape a name, and let it wrap after underscores and dots."""
    return html.escape(text).replace("_", "_<wbr>").replace(".", ".<wbr>")


def html_table(caption: str, columns: Sequence[str], lines: Sequence[tuple[str, Sequence[str]]], name: str = "") -> str:
    """Return a table whose cells are HTML, tags included; titles are texts."""
    if not lines:
        return "<p>Nothing yet.</p>"
    head = "".join(f'<th scope="col">{html.escape(column)}</th>' for column in ("", *columns))
    body = "".join(f'<tr><th scope="row">{breakable(title)}</th>{"".join(cells)}</tr>\n' for title, cells in lines)
    return (
        f'<div class="scroll"><table class="{name}"><caption class="hidden">{html.escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def heat_map(found: Mapping[str, Mapping[str, Correlation]]) -> str:
    """Return correlations as a coloured table, parameters down, metrics across."""
    metrics = list(dict.fromkeys(metric for of_metric in found.values() for metric in of_metric))
    lines = [
        (parameter, [_heat_cell(parameter, metric, of_metric[metric]) for metric in metrics])
        for parameter, of_metric in found.items()
    ]
    return html_table("Correlation of parameters and metrics", [title_of(m) for m in metrics], lines, "heat")


def _heat_cell(parameter: str, metric: str, correlation: Correlation) -> str:
    r = correlation.r
    interval = correlation.interval
    between = "" if interval is None else f", 95 % interval {interval[0]:+.2f} to {interval[1]:+.2f}"
    note = html.escape(f"{parameter} and {title_of(metric)}, {correlation.num_points:,} trials{between}")
    if r is None:
        return f'<td class="number" title="{note}">{ABSENT}</td>'
    color = _POSITIVE if r > 0 else _NEGATIVE
    return f'<td class="number" title="{note}" style="background:rgb({color}/{abs(r) * 0.75:.2f})">{r:+.2f}</td>'


def means_table(parameter: str, means: Sequence[ValueMeans]) -> str:
    """Return the mean of each metric for each value of one parameter."""
    metrics = list(dict.fromkeys(metric for entry in means for metric in entry.means))
    lines = [
        (
            parameter_text(entry.value),
            [
                f'<td class="number">{text}</td>'
                for text in (f"{entry.num_trials:,}", *(metric_text(m, entry.means.get(m)) for m in metrics))
            ],
        )
        for entry in means
    ]
    heading = f"<h3>Mean by value of {html.escape(parameter)}</h3>"
    return heading + html_table(f"Mean by value of {parameter}", ["trials", *(title_of(m) for m in metrics)], lines)


def phase_table(times: Sequence[PhaseTime]) -> str:
    """Return where the time went, with a bar for each phase."""
    lines = [
        (
            time.phase,
            [
                f'<td class="bar"><span style="width:{100 * time.share:.1f}%"></span></td>',
                *(
                    f'<td class="number">{text}</td>'
                    for text in (duration_text(time.total_s), f"{time.share:.0%}", duration_text(time.median_s))
                ),
            ],
        )
        for time in times
    ]
    return html_table("Where the time went", ["", "total", "share", "median of a trial"], lines, "phases")


def failure_list(facts: Facts) -> str:
    """Return failed trials with their errors."""
    items = []
    for row in facts.in_order:
        if failure := row.record.failure:
            settings = ", ".join(f"{name} {value}" for name, value in facts.settings(row.record).items())
            items.append(
                f"<li><b>Trial {html.escape(row.record.label)}</b> in phase <b>{html.escape(failure.phase)}</b>"
                f" with <code>{html.escape(failure.type)}</code>"
                f"<pre>{html.escape(failure.message)}</pre><small>{html.escape(settings)}</small></li>"
            )
    return f'<ul class="failures">{"".join(items)}</ul>' if items else "<p>No trial failed.</p>"


def definition_list(items: Mapping[str, str]) -> str:
    """Return names with what they stand for."""
    pairs = (f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd></div>" for k, v in items.items())
    return f"<dl>{''.join(pairs)}</dl>"
