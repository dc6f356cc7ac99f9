"""`secateur staircase`: where a device's latency steps lie."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from secateur.analysis.staircase import measure_staircase, study_entry
from secateur.analysis.subject import study_name
from secateur.cli.display import progress_on_stderr
from secateur.cli.out_folder import write_files
from secateur.cli.output import print_json, print_table, say
from secateur.cli.studies import RUNS
from secateur.config import load_device
from secateur.findings import Staircase
from secateur.models import default_input_size, default_num_classes
from secateur.report.staircase import headline, render_html, render_png
from secateur.store import open_store

_NOTE = """\
# {headline}
# Measured on {device}.
# `pruners` goes into the compression schedule (with a policy that fires it, and one that thins),
# `search` into the study.
"""


def staircase(
    model: str,
    layer: str,
    device: str,
    step: int | None,
    num_classes: int | None,
    input_size: int | None,
    out: Path | None,
    store: str,
    *,
    as_json: bool,
) -> None:
    """Measure the staircase of one layer, write it and show it.

    Raises:
        InputError: There is no such model, layer or device, the layer cannot lose filters, or DIR cannot be written.
        ThinningError: The network cannot be traced.
        MeasurementError: The runner failed.
    """
    profile = load_device(device)
    folder = out or RUNS / study_name(model)
    write_files(folder, {})
    with progress_on_stderr():
        found = measure_staircase(
            model,
            layer,
            profile,
            open_store(store),
            num_classes=num_classes or default_num_classes(model),
            input_size=input_size or default_input_size(model),
            step=step,
        )
    stem = f"staircase-{re.sub(r'[^A-Za-z0-9._-]', '-', found.layers[0])}"
    document: dict[str, Any] = {
        **found.model_dump(mode="json"),
        "allowed_counts": [point.num_kept for point in found.allowed],
    }
    files: dict[str, str | bytes] = {
        f"{stem}.json": found.model_dump_json(indent=1),
        f"{stem}.png": render_png(found),
        f"{stem}.html": render_html(found),
    }
    if len(found.allowed) > 1:
        document["study"] = study_entry(found)
        note = _NOTE.format(headline=headline(found), device=found.device.full_name)
        files[f"{stem}.yaml"] = note + yaml.safe_dump(document["study"], sort_keys=False, default_flow_style=None)
    write_files(folder, files)
    if as_json:
        print_json({"out": str(folder), **document})
        return
    _print(found)
    say("\n".join(str(folder / name) for name in files))


def _print(found: Staircase) -> None:
    rows = [
        (
            f"{step.fewest} to {step.most}" if step.fewest < step.most else str(step.most),
            f"{step.latency_ratio:.4f}",
            f"{step.standard_error:.4f}",
            str(step.most) if step.is_worthwhile else "-",
        )
        for step in found.steps
    ]
    print_table(
        f"{found.model}, {found.name}",
        ("filters", "latency ratio", "standard error", "worth having"),
        rows,
    )
    say(headline(found))
