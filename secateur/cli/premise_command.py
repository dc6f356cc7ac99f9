"""`secateur premise`, as it is typed."""

from __future__ import annotations

from typing import Annotated

import typer

from secateur.cli.options import STORE, Json, StoreUrl, Study


def premise(
    study: Study,
    num: Annotated[int, typer.Option(min=20, help="Networks to measure before and after training.")] = 20,
    store: StoreUrl = STORE,
    json: Json = False,
) -> None:
    """Find out whether training changes latency; if not, candidates are measured before they are trained."""
    from secateur.cli.premise import premise as run

    run(study, num, store, as_json=json)
