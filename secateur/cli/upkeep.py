"""`secateur champion`, `remeasure` and `gc`: what can be typed about what a search has left."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secateur.cli.arguments import DEFAULT_STORE, Json, Set, StoreUrl, Study
from secateur.errors import InputError

commands = typer.Typer()


@commands.command()
def champion(
    study: Study,
    choose: Annotated[
        bool, typer.Option("--choose", help="Retrain the best trials with fresh seeds, judge them on the device.")
    ] = False,
    promote: Annotated[
        bool, typer.Option("--promote", help="Make the winner the champion; implies --choose, computes its test top1.")
    ] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Make the champion before it champion again.")] = False,
    export: Annotated[
        Path | None, typer.Option("--export", metavar="DIR", help="Write ONNX, OpenVINO IR, safetensors, model card.")
    ] = None,
    overrides: Set = [],  # noqa: B006
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Show the champion of a study; choose, promote, roll back, export. Choosing goes on where it was interrupted."""
    if rollback and (choose or promote):
        raise InputError("--rollback goes back to an earlier champion, so it cannot go with --choose or --promote.")
    from secateur.cli.champion import champion as run

    run(
        study,
        overrides,
        store,
        is_choosing=choose or promote,
        is_promoting=promote,
        is_rolling_back=rollback,
        out=export,
        as_json=json,
    )


@commands.command()
def remeasure(study: Study, store: StoreUrl = DEFAULT_STORE, json: Json = False) -> None:
    """Measure champion and baselines again: has the device, or a model, changed since the last nights?"""
    from secateur.cli.remeasure import remeasure as run

    run(study, store, as_json=json)


@commands.command()
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Delete it. [default: only show what would be]")] = False,
    store: StoreUrl = DEFAULT_STORE,
    json: Json = False,
) -> None:
    """Free what no record, champion or other document of a store names any more."""
    from secateur.cli.collect import gc as run

    run(store, is_real=yes, as_json=json)
