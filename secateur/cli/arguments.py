"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's YAML file, or its name in the store.")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a field; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else.")]
StoreUrl = Annotated[
    str, typer.Option("--store", envvar="SECATEUR_STORE", metavar="URL", help="A folder, or s3://bucket/prefix.")
]
DEFAULT_STORE = "runs/.store"
