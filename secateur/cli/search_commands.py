"""`secateur try`, `premise` and `import-wandb`: what a person says to a search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.options import MODEL_HELP, STORE, Json, StoreUrl, Study

commands = typer.Typer()


@commands.command("try")
def try_candidate(
    study: Study,
    values: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=VALUE...", help="Parameters of the study; the others are as it says."),
    ] = None,
    store: StoreUrl = STORE,
    json: Json = False,
) -> None:
    """Queue a candidate of your own: the study's sweep runs it next."""
    from secateur.cli.try_candidate import try_candidate as queue

    queue(study, values or [], store, as_json=json)


@commands.command()
def import_wandb(
    sweep: Annotated[Path, typer.Argument(metavar="SWEEP.yaml", help="A W&B sweep configuration.")],
    schedule: Annotated[Path, typer.Option(help="The Distiller compression schedule whose entries it sets.")],
    model: Annotated[str | None, typer.Option(help=f"{MODEL_HELP} [default: the schedule's arch]")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="As in a study: digits, imagefolder:PATH, ... [default: the schedule's]")
    ] = None,
    rename: Annotated[
        list[str],
        typer.Option(metavar="NAME=ENTRY.FIELD", help="What a parameter of the sweep is called here; may be repeated."),
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the study goes; by default to stdout.")
    ] = None,
) -> None:
    """Make a study of a Weights & Biases sweep configuration and a compression schedule."""
    from secateur.cli.import_wandb import import_wandb as translate

    translate(sweep, schedule, model, dataset, rename, out)


@commands.command()
def premise(
    study: Study,
    num: Annotated[int, typer.Option(min=20, help="Networks to measure before and after training.")] = 20,
    store: StoreUrl = STORE,
    json: Json = False,
) -> None:
    """Find out whether training changes latency; if not, candidates are measured before they are trained."""
    from secateur.cli.premise import premise as run

    run(study, num, store, as_json=json)
