"""`secateur`: what can be typed. Each command imports what it needs, so that `--help` answers at once."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from secateur import __version__
from secateur.cli import search_commands, upkeep
from secateur.cli.options import MODEL_HELP, STORE, DatasetName, Device, Json, Model, Set, StoreUrl, Study
from secateur.errors import InputError, SecateurError

app = typer.Typer(
    name="secateur",
    help="Pruning shears for neural networks, guided by the device itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(upkeep.commands)
app.add_typer(search_commands.commands)

Weights = Annotated[Path | None, typer.Option(help="safetensors, npz or pt; absent: the network is trained first.")]
MeasuredOn = Annotated[
    str | None, typer.Option("--device", help="A device profile: measure latency, too. [default: not measured]")
]
Sparsity = Annotated[
    list[float], typer.Option(help="Fraction of filters to remove; may be repeated.", show_default="0.1 to 0.9")
]
ImageSize = Annotated[
    int | None, typer.Option(min=8, help="Height and width of the images; by default the model's usual size.")
]
Folder = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="[default: runs/<model>]")]
_SPARSITIES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
"""Li et al. 2017 prune 10 to 90 % of each layer's filters (figure 2b)."""
_INTERRUPTED = 130
"""What typer exits with after Ctrl-C, as shells do."""


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"secateur {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def sweep(
    study: Study,
    trials: Annotated[int | None, typer.Option(min=1, help="Trials in all, instead of the study's budget.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget the study's trials and start over.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, estimate time and disk, run nothing.")
    ] = False,
    overrides: Set = [],  # noqa: B006
    store: StoreUrl = STORE,
    json: Json = False,
) -> None:
    """Search for the fastest networks; the same command goes on where it was interrupted."""
    _read(study, store, overrides)
    if dry_run:
        from secateur.cli.dry_run import dry_run as command

        command(study, trials, overrides, store, as_json=json)
    else:
        from secateur.cli.run import sweep as run

        run(study, trials, overrides, store, fresh=fresh, as_json=json)


@app.command()
def baseline(study: Study, overrides: Set = [], store: StoreUrl = STORE, json: Json = False) -> None:  # noqa: B006
    """Make and measure the unpruned network, and the schedule's own setting."""
    _read(study, store, overrides)
    from secateur.cli.run import baseline as run

    run(study, overrides, store, as_json=json)


@app.command()
def bundle(
    study: Study,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where jobs go; or what `secateur train` wrote.")],
    trials: Annotated[
        int | None, typer.Option(min=0, help="Trials to prepare, beside the schedule's own setting. [default: a batch]")
    ] = None,
    take_back: Annotated[
        bool, typer.Option("--take-back", help="DIR holds results: evaluate, export and keep them for the sweep.")
    ] = False,
    overrides: Set = [],  # noqa: B006
    store: StoreUrl = STORE,
    json: Json = False,
) -> None:
    """Write pruned candidates to a folder, to be trained by a host without a network; or take its results back."""
    _read(study, store, overrides)
    from secateur.cli.bundle import bundle as write
    from secateur.cli.bundle import take_back as take

    if take_back:
        take(study, folder, overrides, store, as_json=json)
    else:
        write(study, folder, trials, overrides, store, as_json=json)


@app.command()
def train(
    jobs: Annotated[Path, typer.Argument(metavar="JOBS_DIR", help="As `secateur bundle` wrote it.")],
    out: Annotated[Path, typer.Argument(metavar="OUT_DIR", help="What goes back: see `secateur bundle --take-back`.")],
    json: Json = False,
) -> None:
    """Train a bundle's candidates; the same command goes on where it ended, and may run once for each GPU."""
    from secateur.cli.bundle import train as run

    run(jobs, out, as_json=json)


@app.command()
def status(
    study: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="By default, all studies.")] = None,
    store: StoreUrl = STORE,
    json: Json = False,
) -> None:
    """Show progress, the best so far, and what runs where."""
    from secateur.cli.studies import status as show

    show(study, store, as_json=json)


@app.command()
def pause(study: Study, store: StoreUrl = STORE) -> None:
    """Let a sweep finish the trial at hand, then wait."""
    from secateur.cli.studies import pause as order

    order(study, store)


@app.command()
def resume(study: Study, store: StoreUrl = STORE) -> None:
    """Let a paused sweep go on."""
    from secateur.cli.studies import resume as order

    order(study, store)


@app.command()
def cancel(study: Study, store: StoreUrl = STORE) -> None:
    """End a running sweep after the trial at hand; what it found is kept."""
    from secateur.cli.studies import cancel as order

    order(study, store)


@app.command()
def report(study: Study, store: StoreUrl = STORE, json: Json = False) -> None:
    """Write the report from the trial records: a page, Markdown with images, CSV and Parquet."""
    from secateur.cli.studies import report as write

    write(study, store, as_json=json)


@app.command()
def prune(
    model: Annotated[str, typer.Option(help=MODEL_HELP)],
    schedule: Annotated[Path, typer.Option(help="A Distiller compression schedule.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where model.onnx and model.safetensors go.")],
    weights: Annotated[Path | None, typer.Option(help="safetensors, npz or pt; absent: random weights.")] = None,
    num_classes: Annotated[int | None, typer.Option(min=2, help="By default what the weights have.")] = None,
    input_size: ImageSize = None,
    device: Annotated[
        str | None, typer.Option(help="Export for this device profile, if the device has the network's operations.")
    ] = None,
    skip_unprunable: Annotated[
        bool, typer.Option("--skip-unprunable", help="Leave layers alone that cannot be thinned safely.")
    ] = False,
    json: Json = False,
) -> None:
    """Prune one network as a schedule says, and export it; nothing is trained."""
    from secateur.cli.prune import prune as run

    run(model, schedule, out, weights, num_classes, input_size, device, skip_unprunable=skip_unprunable, as_json=json)


@app.command()
def sensitivity(
    model: Model,
    dataset: DatasetName,
    weights: Weights = None,
    device: MeasuredOn = None,
    sparsity: Sparsity = _SPARSITIES,
    out: Folder = None,
    overrides: Set = [],  # noqa: B006
    store: StoreUrl = STORE,
    json: Json = False,
) -> None:
    """Prune each layer alone, without retraining, and see what it costs; the same command goes on where it ended."""
    from secateur.cli.analysis import Request
    from secateur.cli.analysis import sensitivity as run

    run(Request(model, dataset, weights, device, sparsity, overrides, out, store), as_json=json)


@app.command()
def groups(
    model: Model,
    dataset: DatasetName,
    weights: Weights = None,
    device: MeasuredOn = None,
    sparsity: Sparsity = _SPARSITIES,
    num_groups: Annotated[
        int | None,
        typer.Option("--groups", min=1, max=8, help="Of layers that are pruned one by one. [default: 3 to 8]"),
    ] = None,
    out: Folder = None,
    overrides: Set = [],  # noqa: B006
    store: StoreUrl = STORE,
    json: Json = False,
) -> None:
    """Group layers of like sensitivity: writes a compression schedule, and a study of few parameters."""
    from secateur.cli.analysis import Request
    from secateur.cli.analysis import groups as run

    run(Request(model, dataset, weights, device, sparsity, overrides, out, store), num_groups, as_json=json)


@app.command()
def staircase(
    model: Model,
    layer: Annotated[str, typer.Option(help="A convolution, by module name; those that share its channels go along.")],
    device: Device = "cpu",
    step: Annotated[
        int | None,
        typer.Option(min=1, help="Between the numbers of filters measured at first. [default: for 32 of them at most]"),
    ] = None,
    num_classes: Annotated[int | None, typer.Option(min=2, help="By default as usual for the model.")] = None,
    input_size: ImageSize = None,
    out: Folder = None,
    store: StoreUrl = STORE,
    json: Json = False,
) -> None:
    """Measure latency by the number of a layer's filters: which numbers are worth having on this device."""
    from secateur.cli.staircase import staircase as run

    run(model, layer, device, step, num_classes, input_size, out, store, as_json=json)


@app.command()
def explain(
    model: Model,
    schedule: Annotated[Path, typer.Option(help="A Distiller compression schedule.")],
    weights: Annotated[Path | None, typer.Option(help="safetensors, npz or pt; absent: random weights.")] = None,
    device: Device = "cpu",
    num_classes: Annotated[int | None, typer.Option(min=2, help="By default what the weights have.")] = None,
    input_size: ImageSize = None,
    out: Folder = None,
    json: Json = False,
) -> None:
    """Find out why pruning does (or does not) shorten inference: layer times, roofline, masks, sparse storage."""
    from secateur.cli.explain import explain as run

    run(model, schedule, weights, device, num_classes, input_size, out, as_json=json)


@app.command()
def inspect(
    network: Annotated[str, typer.Argument(metavar="MODEL|CHECKPOINT|ONNX", help="A model's name, or a file.")],
    reference: Annotated[
        str | None, typer.Option(help="The same network before it was pruned: a model or file.")
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw which weights are zero.")] = None,
    num_classes: Annotated[int | None, typer.Option(min=2, help="Of a model; by default as usual for it.")] = None,
    input_size: Annotated[
        int | None, typer.Option(min=8, help="Height and width of the images; by default as usual for the model.")
    ] = None,
    json: Json = False,
) -> None:
    """Show a network's layers: shapes, parameters, MACs, sparsity, bytes."""
    from secateur.cli.inspect_network import inspect as show

    show(network, reference, png, num_classes, input_size, as_json=json)


@app.command()
def benchmark(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL.onnx...", help="One or several ONNX files.")],
    reference: Annotated[
        Path | None, typer.Option(help="What latency ratios are relative to; by default the first model.")
    ] = None,
    device: Device = "cpu",
    processes: Annotated[
        int | None, typer.Option(min=1, help="Fresh processes, instead of the profile's; 5 for figures to publish.")
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Evaluate on its test images, too: cifar10, imagefolder:PATH, ...; or a study's file, for its images.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure ONNX models on this host's device, paired with a reference."""
    from secateur.cli.benchmark import benchmark as run

    run(models, reference, device, processes, dataset, as_json=json)


@app.command()
def devices(json: Json = False) -> None:
    """List the devices of this host, and the device profiles there are."""
    from secateur.cli.devices import devices as show

    show(as_json=json)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A study or a compression schedule.")],
    model: Annotated[str | None, typer.Option(help="Check a schedule against this model, too.")] = None,
) -> None:
    """Check a study or a schedule: every problem, with file and line."""
    from secateur.cli.check import check as run

    run(file, model)


@app.command()
def up(
    port: Annotated[int, typer.Option(help="Of the Prefect server.")] = 4200,
    folder: Annotated[Path, typer.Option("--folder", help="Where its data and logs are kept.")] = Path("runs/.up"),
) -> None:
    """Start a Prefect server, an object store and workers on this machine, and deploy the flows."""
    from secateur.cli.up import up as start

    start(port, folder)


@app.command()
def down(
    folder: Annotated[Path, typer.Option("--folder", help="As it was given to `up`.")] = Path("runs/.up"),
) -> None:
    """End what `secateur up` started, and nothing else."""
    from secateur.cli.up import down as stop

    stop(folder)


def main() -> None:
    """Run the command line; errors become one message and an exit code: 2 for bad input, 130 for Ctrl-C, else 1."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is ended first
    try:
        app()
    except InputError as exc:
        sys.exit(_fail(str(exc), 2))
    except SecateurError as exc:
        sys.exit(_fail(str(exc), 1))
    except SystemExit as exc:
        if exc.code == _INTERRUPTED:
            _fail("interrupted. Nothing that was complete is lost: the same command goes on from here.", _INTERRUPTED)
            os._exit(_INTERRUPTED)  # a thread in the middle of an epoch cannot be told to stop
        raise


def _read(study: str, store: str, overrides: list[str]) -> None:
    """Find a typo in a study before torch is imported, which takes seconds."""
    from secateur.steps.source import find_study

    find_study(study, store, overrides)


def _fail(message: str, code: int) -> int:
    print(f"secateur: {message}", file=sys.stderr, flush=True)  # noqa: T201
    return code


if __name__ == "__main__":
    main()
