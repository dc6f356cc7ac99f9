"""`secateur explain`: why pruning does, or does not, shorten inference on a device."""

from __future__ import annotations

from pathlib import Path

from secateur.analysis.explanation import explain as find_out
from secateur.analysis.subject import study_name
from secateur.cli.display import progress_on_stderr
from secateur.cli.out_folder import write_files
from secateur.cli.output import print_json, print_table, say
from secateur.cli.studies import RUNS
from secateur.cli.unpruned import load_both
from secateur.config import load_device
from secateur.models import default_input_size
from secateur.report.explanation import COLUMNS, render_html, render_png, rows
from secateur.report.verdict import verdict


def explain(
    model: str,
    schedule_path: Path,
    weights: Path | None,
    device: str,
    num_classes: int | None,
    input_size: int | None,
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure a network unpruned, masked and thinned, write what was found and show it.

    Raises:
        InputError: The schedule, the model, the weights or the device are wrong, or DIR cannot be written.
        ThinningError: What the schedule prunes cannot be removed.
        MeasurementError: The runner failed.
    """
    profile = load_device(device)
    module, _, schedule = load_both(model, schedule_path, weights, num_classes)
    folder = out or RUNS / study_name(model)
    write_files(folder, {})
    with progress_on_stderr():
        found = find_out(model, module, schedule, input_size or default_input_size(model), profile)
    said = verdict(found)
    files: dict[str, str | bytes] = {
        "explanation.json": found.model_dump_json(indent=1),
        "explanation.png": render_png(found),
        "explanation.html": render_html(found),
    }
    write_files(folder, files)
    if as_json:
        print_json({"out": str(folder), "verdict": said, **found.model_dump(mode="json")})
        return
    if found.layers:
        print_table(f"{model} after {schedule_path.name}", ("layer", *COLUMNS), rows(found))
    say("\n".join(said))
    say("\n".join(str(folder / name) for name in files))
