"""The report as one HTML file: it needs no network, and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import math
import statistics
import string

from secateur.report import figures
from secateur.report.circumstances import (
    conditions,
    device_text,
    devices,
    num_test_accesses,
    phase_times,
    versions,
)
from secateur.report.comparison import compared_names, comparison
from secateur.report.correlation import correlations, means_by_value
from secateur.report.facts import Facts, gather, name_of
from secateur.report.formats import duration_text, interval_text, metric_text, title_of
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
    sections = [*(_plot(picture, facts) for picture in pictures(facts)), *_sections(facts)]
    scripts = [figures.plotly_script(), _asset("report.js")]
    return string.Template(_asset("page.html")).substitute(
        policy=_policy(scripts),
        name=html.escape(facts.study.name),
        style=_asset("report.css"),
        what=html.escape(what_text(facts)),
        headline=html.escape(headline(facts)),
        tiles=_tiles(facts),
        sections="\n".join(sections),
        footer=html.escape(f"{count_text(facts)}. Written by secateur from the trial records alone."),
        scripts="\n".join(f"<script>{script}</script>" for script in scripts),
    )


def _asset(name: str) -> str:
    return (importlib.resources.files(__package__) / "assets" / name).read_text(encoding="utf-8")


def _policy(scripts: list[str]) -> str:
    """Return a policy under which nothing is loaded and nothing runs but `scripts`, whatever a record contains."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def what_text(facts: Facts) -> str:
    """Return what was studied, on what."""
    found = devices(facts)
    device = f"measured on {device_text(found[0])}" if found else "not measured yet"
    more = f" and {len(found) - 1:,} more" if len(found) > 1 else ""
    return f"{facts.study.model} on {facts.study.dataset.name}, {device}{more}"


def _tiles(facts: Facts) -> str:
    tiles = []
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
    items = (
        f'<div><dt>{html.escape(title)}</dt><dd class="figure">{html.escape(figure)}</dd>'
        f"<dd><small>{html.escape(note)}</small></dd></div>"
        for title, figure, note in tiles
    )
    return f'<dl class="tiles">{"".join(items)}</dl>'


def _plot(picture: Picture, facts: Facts) -> str:
    if not picture.points:
        return _section(html.escape(picture.title), f'<p class="note">Nothing yet. {html.escape(picture.omitted)}</p>')
    data = json.dumps(figures.figure(picture, facts), allow_nan=False).replace("<", "\\u003c")
    buttons, notes = "", [picture.omitted]
    if picture.has_focus:
        notes.insert(0, f"{picture.num_outside:,} points lie outside of the closer view.")
        views = {"Closer": (picture.x.focus, picture.y.focus), "All": (picture.x.range, picture.y.range)}
        buttons = "".join(
            f'<button type="button" data-view="{picture.name}" aria-pressed="{str(name == "Closer").lower()}"'
            f" data-ranges='{json.dumps(ranges, allow_nan=False)}'>{name}</button>"
            for name, ranges in views.items()
        )
    return (
        f"<section><h2>{html.escape(picture.title)}</h2>"
        f'<div class="plot-bar">{buttons}</div>'
        f'<div class="plot" id="{picture.name}" data-figure="{picture.name}-data" role="img"'
        f' aria-label="{html.escape(picture.description)}"></div>'
        f'<script type="application/json" id="{picture.name}-data">{data}</script>'
        f"<noscript><p>The plot needs JavaScript; the table of trials below holds the same figures.</p></noscript>"
        f'<p class="note">{html.escape(" ".join(notes))}</p></section>'
    )


def _sections(facts: Facts) -> list[str]:
    scroll = '<div class="scroll" tabindex="0" role="region" aria-label="Table of trials">'
    return [
        _section("Trials", f"{scroll}{trial_table(facts)}</div>"),
        '<div class="pair">',
        _section(
            "Baselines and best trial",
            text_table("Baselines and best trial", compared_names(facts), comparison(facts)),
        ),
        _section("Where the time went", phase_table(phase_times(facts))),
        "</div>",
        _section("Parameters and metrics", _parameters(facts)),
        _section("Failed trials", failure_list(facts)),
        _section("Conditions", _conditions(facts)),
    ]


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>"


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
