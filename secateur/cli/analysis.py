"""`secateur sensitivity` and `secateur groups`: from a network nobody knows to a study of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from secateur.analysis import Subject, analyse, check_sparsities, read_subject
from secateur.analysis.grouping import Group, group_layers, grouped_schedule, grouped_study
from secateur.candidate import Workshop
from secateur.cli.display import progress_on_stderr
from secateur.cli.out_folder import write_files
from secateur.cli.output import print_json, print_table, say
from secateur.cli.studies import RUNS
from secateur.report.sensitivity import headline, render_csv, render_html, render_png
from secateur.sensitivity_results import Sensitivity
from secateur.store import open_store

_NUM_REASONS = 5
"""Why a layer is left out is told of so many; a network that cannot be traced has dozens of them."""


@dataclass(frozen=True)
class Request:
    """What was typed: the options that both commands share."""

    model: str
    dataset: str
    weights: Path | None
    device: str | None
    sparsities: Sequence[float]
    overrides: Sequence[str]
    out: Path | None
    store: str


def sensitivity(request: Request, *, as_json: bool) -> None:
    """Analyse a network, write what was found and show it.

    Raises:
        InputError: What was typed is wrong, or DIR cannot be written.
        ThinningError: Nothing in the network can be pruned.
    """
    subject, folder, analysis = _analyse(request)
    if as_json:
        print_json({"out": str(folder), **analysis.model_dump(mode="json")})
        return
    sparsities = [f"{point.sparsity:.4g}" for point in analysis.units[0].points]
    rows = [
        (unit.name, f"{unit.cost(analysis.unpruned.top1):.2f}", *(f"{point.top1:.1f}" for point in unit.points))
        for unit in analysis.units
    ]
    print_table(
        f"{subject.study.model}: top1 % when a layer alone is pruned (unpruned: {analysis.unpruned.top1:.1f})",
        ("layer", "mean drop", *sparsities),
        rows,
    )
    left_out = [f"Left out: {layer}: {reason}" for layer, reason in analysis.left_out.items()]
    if len(left_out) > _NUM_REASONS:
        left_out[_NUM_REASONS:] = [f"... and {len(left_out) - _NUM_REASONS} more, all in sensitivity.html"]
    say("\n".join([headline(analysis), *left_out]))
    say("\n".join(str(folder / name) for name in ("sensitivity.csv", "sensitivity.png", "sensitivity.html")))


def groups(request: Request, num_groups: int | None, *, as_json: bool) -> None:
    """Write a schedule and a study of few parameters, and show the groups.

    Raises:
        InputError: What was typed is wrong, or DIR cannot be written.
        ThinningError: Nothing in the network can be pruned.
    """
    subject, folder, analysis = _analyse(request)
    found = group_layers(analysis, num_groups)
    max_sparsity = max(point.sparsity for unit in analysis.units for point in unit.points)
    study = grouped_study(subject.study_document(), "schedule.yaml", found, max_sparsity)
    write_files(
        folder,
        {
            "schedule.yaml": _yaml(_schedule_note(subject, found), grouped_schedule(found)),
            "study.yaml": _yaml(f"Layers of like sensitivity share a parameter: see {study['schedule']}.", study),
        },
    )
    if as_json:
        entries = [
            {
                "name": group.name,
                "layers": list(group.layers),
                "is_coupled": group.is_coupled,
                "sensitivity": group.sensitivity,
                "desired_sparsity": group.sparsity,
            }
            for group in found
        ]
        print_json({"schedule": str(folder / "schedule.yaml"), "study": str(folder / "study.yaml"), "groups": entries})
        return
    rows = [(g.name, len(g.layers), f"{g.sensitivity:.2f}", f"{g.sparsity:.4g}", " ".join(g.layers)) for g in found]
    print_table(
        f"{subject.study.model}: {len(found)} parameters",
        ("group", "layers", "mean drop", "begins at", "convolutions"),
        rows,
    )
    say(f"{folder / 'schedule.yaml'}\n{folder / 'study.yaml'}")
    say(f"Next: secateur sweep {folder / 'study.yaml'}")


def _analyse(request: Request) -> tuple[Subject, Path, Sensitivity]:
    sparsities = check_sparsities(request.sparsities)
    subject = read_subject(request.model, request.dataset, request.weights, request.device, request.overrides)
    folder = request.out or RUNS / subject.study.name
    write_files(folder, {})
    store = open_store(request.store)
    with progress_on_stderr():
        workshop = Workshop(study=subject.study, store=store)
        analysis = analyse(workshop, sparsities, subject.study.device if subject.is_measured else None)
    write_files(
        folder,
        {
            "sensitivity.json": analysis.model_dump_json(indent=1),
            "sensitivity.csv": render_csv(analysis),
            "sensitivity.png": render_png(analysis),
            "sensitivity.html": render_html(analysis),
        },
    )
    return subject, folder, analysis


def _schedule_note(subject: Subject, found: Sequence[Group]) -> str:
    lines = [f"Filter pruning of {subject.study.model}, in groups of layers of like sensitivity."]
    lines += ["Mean loss of top1, in points, when one layer alone is pruned without retraining:"]
    return "\n".join([*lines, *(f"  {group.name}: {group.sensitivity:.2f}" for group in found)])


def _yaml(note: str, document: Mapping[str, Any]) -> str:
    comment = "".join(f"# {line}\n" for line in note.splitlines())
    return comment + yaml.safe_dump(dict(document), sort_keys=False, width=110, default_flow_style=None)
