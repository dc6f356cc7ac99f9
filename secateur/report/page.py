"""The report as one HTML file: it needs no network, and runs no script but its own."""

from __future__ import annotations

import html
import json
import math
import statistics

from secateur.report import figures
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
from secateur.report.formats import duration_text, interval_text, metric_text, title_of
from secateur.report.frame import Tile, html_page, plot, section
from secateur.report.headline import constraint_text, count_text, headline
from secateur.report.picture import Picture, pictures
from secateur.report.tables import (
    definition_list,
    failure_list,
    heat_map,
    means_table,
    phase_table,
    text_table,
)
from secateur.report.trial_table import trial_table
from secateur.results import StudyResults


def render_html(results: StudyResults) -> str:
    """Return the report of a study as one self-contained HTML page of about 5 MB."""
    facts = gather(results)
    return html_page(
        overline="secateur study",
        name=facts.study.name,
        what=what_text(facts),
        headline=headline(facts),
        tiles=_tiles(facts),
        sections=[*(_plot(picture, facts) for picture in pictures(facts)), *_sections(facts)],
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


def _plot(picture: Picture, facts: Facts) -> str:
    if not picture.points:
        return section(html.escape(picture.title), f'<p class="note">Nothing yet. {html.escape(picture.omitted)}</p>')
    buttons, notes = "", [picture.omitted]
    if picture.has_focus:
        notes.insert(0, f"{picture.num_outside:,} points lie outside of the closer view.")
        views = {"Closer": (picture.x.focus, picture.y.focus), "All": (picture.x.range, picture.y.range)}
        buttons = "".join(
            f'<button type="button" data-view="{picture.name}" aria-pressed="{str(name == "Closer").lower()}"'
            f" data-ranges='{json.dumps(ranges, allow_nan=False)}'>{name}</button>"
            for name, ranges in views.items()
        )
    return plot(
        picture.name,
        picture.title,
        figures.figure(picture, facts),
        description=picture.description,
        buttons=buttons,
        note=" ".join(notes),
    )


def _sections(facts: Facts) -> list[str]:
    scroll = '<div class="scroll" tabindex="0" role="region" aria-label="Table of trials">'
    return [
        section("Trials", f"{scroll}{trial_table(facts)}</div>"),
        '<div class="pair">',
        section(
            "Baselines and best trial",
            text_table("Baselines and best trial", compared_names(facts), comparison(facts)),
        ),
        section("Where the time went", phase_table(phase_times(facts))),
        "</div>",
        section("Classes", text_table("The classes found least", class_columns(facts), class_lines(facts))),
        section("Parameters and metrics", _parameters(facts)),
        section("Failed trials", failure_list(facts)),
        section("Conditions", _conditions(facts)),
    ]


def _parameters(facts: Facts) -> str:
    note = (
        "Pearson's correlation over all trials that have both; a dash stands for fewer than 3 points or no variation."
    )
    tables = [means_table(name, means) for name, means in means_by_value(facts.usable, facts.study).items()]
    return f'{heat_map(correlations(facts.usable))}<p class="note">{note}</p>{"".join(tables)}'


def _conditions(facts: Facts) -> str:
    search, training = facts.study.search, facts.study.training
    found = devices(facts)
    items = {
        "objectives": ", ".join(f"{direction} {metric}" for metric, direction in facts.objectives.items()),
        "constraints": ", ".join(constraint_text(facts)) or "none",
        "search": f"{search.method}, seed {search.seed}",
        "retraining": f"{training.epochs:,} epochs, lr {training.lr:g}, batches of {training.batch_size:,}",
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
