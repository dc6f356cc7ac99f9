"""The report as one HTML file: it needs no network, and runs no script but its own."""

from __future__ import annotations

import html
import json
import math
import statistics
from collections.abc import Sequence

from secateur.insight import Insight, NoInsight
from secateur.report.chart import Figure, LeftOut, Panel, Plot
from secateur.report.circumstances import (
    conditions,
    device_text,
    devices,
    num_test_accesses,
    phase_times,
    versions,
)
from secateur.report.classes import class_columns, class_lines
from secateur.report.comparison import compared_names, comparison
from secateur.report.correlation import correlations, means_by_value
from secateur.report.facts import Facts, gather, name_of
from secateur.report.figures import NOT_ASKED, study_figures
from secateur.report.formats import duration_text, interval_text, metric_text, title_of
from secateur.report.frame import Tile, contents, data_island, group, html_page, legend, plot_area, section
from secateur.report.headline import constraint_text, count_text, headline
from secateur.report.plotly_drawing import draw, record_hovers
from secateur.report.tables import (
    definition_list,
    failure_list,
    heat_map,
    means_table,
    phase_table,
    text_table,
)
from secateur.report.trial_table import trial_table
from secateur.report.wall_clock import gate_text, savings
from secateur.results import StudyResults

_ROW_REM, _AROUND_REM, _MIN_REM = 1.15, 6.0, 16.0
"""Height of a plot with names on its y axis: of each name, of what surrounds them, at least."""


def render_html(results: StudyResults, insight: Insight | NoInsight = NOT_ASKED) -> str:
    """Return the report of a study as one self-contained HTML page of about 2 MB.

    Args:
        results: All records of the study.
        insight: What the optimiser's model says.
    """
    facts = gather(results)
    figures, tables = study_figures(facts, insight), _tables(facts)
    groups = list(dict.fromkeys([*figures, *tables]))
    return html_page(
        overline="secateur study",
        name=facts.study.name,
        what=what_text(facts),
        headline=headline(facts),
        tiles=_tiles(facts),
        sections=[
            contents(groups),
            *(part for name in groups for part in (group(name), *_cards(figures.get(name, [])), *tables.get(name, []))),
            data_island("records", record_hovers(facts)),
        ],
        footer=f"{count_text(facts)}. Written by secateur from the trial records alone.",
    )


def what_text(facts: Facts) -> str:
    """Return what was studied, on what."""
    found = devices(facts)
    device = f"measured on {device_text(found[0])}" if found else "not measured yet"
    more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
    return f"{facts.study.model} on {facts.study.dataset.name}, {device}{more}"


def _tiles(facts: Facts) -> list[Tile]:
    tiles: list[Tile] = []
    best = facts.best
    if best and best.record.latency:
        ratio = best.record.latency.latency_ratio
        estimate, _, interval = interval_text(ratio).partition(" ")
        faster = f"{1 / ratio.estimate:.2f} times as fast as unpruned" if ratio.estimate > 1e-3 else ""
        tiles.append((f"latency ratio of {name_of(best)}", estimate, f"{interval} · {faster}".strip(" ·")))
    if best and "top1" in best.metrics:
        drop = best.metrics.get("top1_drop")
        against = "" if drop is None else f"{metric_text('top1', -drop)} points against unpruned"
        tiles.append((f"top1 of {name_of(best)}", f"{metric_text('top1', best.metrics['top1'])} %", against))
    num_front = sum(row.is_on_front for row in facts.rows)
    total, _, by_state = count_text(facts).partition(": ")
    tiles.append(("trials", total.split()[0], by_state))
    if len(facts.objectives) > 1:
        tiles.append(("on the front", f"{num_front:,}", " and ".join(title_of(metric) for metric in facts.objectives)))
    spent = [math.fsum(row.record.seconds.values()) for row in facts.rows if row.record.seconds]
    if spent:
        median = duration_text(statistics.median(spent))
        tiles.append(("time spent on trials", duration_text(math.fsum(spent)), f"median {median} a trial"))
    return tiles


def _cards(figures: Sequence[Figure | LeftOut]) -> list[str]:
    left_out = [
        f"<li><b>{html.escape(f.title)}</b>: {html.escape(f.reason)}</li>" for f in figures if isinstance(f, LeftOut)
    ]
    cards = [_card(figure) for figure in figures if isinstance(figure, Figure)]
    return [*cards, *([f'<ul class="left-out">{"".join(left_out)}</ul>'] if left_out else [])]


def _card(figure: Figure) -> str:
    panels = "".join(_panel(name, panel, figure) for name, panel in figure.named_panels)
    entries = figure.legend if len(figure.panels) > 1 and len(figure.legend) > 1 else ()
    return section(
        html.escape(figure.title),
        f'<p class="reading">{html.escape(figure.reading)}</p>{legend(entries)}<div class="panels">{panels}</div>'
        f'<p class="note">{html.escape(figure.note)}</p>',
    )


def _panel(name: str, panel: Panel, figure: Figure) -> str:
    title = f"<h3>{html.escape(panel.title)}</h3>" if panel.title else ""
    height = "" if panel.num_rows is None else f"{max(_MIN_REM, _AROUND_REM + _ROW_REM * panel.num_rows):.1f}rem"
    area = plot_area(
        name,
        draw(panel, has_legend=len(figure.panels) == 1),
        description=f"{figure.title}: {panel.description}",
        buttons=_view_buttons(name, panel),
        height=height,
    )
    return f'<div class="panel">{title}{area}</div>'


def _view_buttons(name: str, panel: Panel) -> str:
    if not isinstance(panel, Plot) or not panel.has_focus:
        return ""
    views = {"Closer": (panel.view(panel.x), panel.view(panel.y)), "All": (panel.x.range, panel.y.range)}
    return "".join(
        f'<button type="button" data-view="{name}" aria-pressed="{str(view == "Closer").lower()}"'
        f" data-ranges='{json.dumps(ranges, allow_nan=False)}'>{view}</button>"
        for view, ranges in views.items()
    )


def _tables(facts: Facts) -> dict[str, list[str]]:
    scroll = '<div class="scroll" tabindex="0" role="region" aria-label="Table of trials">'
    compared = text_table("Baselines and best trial", compared_names(facts), comparison(facts))
    saved = text_table("What was saved", ["trials", "epochs", "about"], savings(facts))
    return {
        "Result": [
            section("Trials", f"{scroll}{trial_table(facts)}</div>"),
            '<div class="pair">',
            section("Baselines and best trial", compared),
            section("Classes", text_table("The classes found least", class_columns(facts), class_lines(facts))),
            "</div>",
        ],
        "Parameters": [section("Parameters and metrics", _parameters(facts))],
        "Time": [
            '<div class="pair">',
            section("What was saved", f'{saved}<p class="note">{html.escape(gate_text(facts))}</p>'),
            section("Time spent on trials", phase_table(phase_times(facts))),
            "</div>",
        ],
        "Conditions": [
            section("Failed trials", failure_list(facts)),
            section("Conditions", _conditions(facts)),
        ],
    }


def _parameters(facts: Facts) -> str:
    note = (
        f"Pearson's correlation over the {len(facts.sampled):,} trials that no earlier result had a say in; a dash"
        " stands for fewer than 3 points or no variation."
    )
    tables = [means_table(name, means) for name, means in means_by_value(facts.usable, facts.study).items()]
    found = {facts.names.get(name, name): of_metric for name, of_metric in correlations(facts.sampled).items()}
    return f'{heat_map(found)}<p class="note">{note}</p>{"".join(tables)}'


def _conditions(facts: Facts) -> str:
    search, training = facts.study.search, facts.study.training
    epochs = "a searched number of" if "training.epochs" in search.parameters else f"{training.epochs:,}"
    found = devices(facts)
    items = {
        "objectives": ", ".join(f"{direction} {metric}" for metric, direction in facts.objectives.items()),
        "constraints": ", ".join(constraint_text(facts)) or "none",
        "search": f"{search.method}, seed {search.seed}",
        "retraining": f"{epochs} epochs, lr {training.lr:g}, batches of {training.batch_size:,}",
        "test data": f"touched {num_test_accesses(facts):,} times",
        **{f"device {number}": f"{device_text(d)}, profile {d.profile}" for number, d in enumerate(found, start=1)},
        **conditions(facts),
    }
    warning = (
        '<p class="note"><b>Latencies were measured under different conditions: they do not compare.</b></p>'
        if len(found) > 1
        else ""
    )
    return f"{warning}{definition_list(items)}<h3>Versions</h3>{definition_list(versions(facts))}"
