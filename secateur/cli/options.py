"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from secateur import __version__

Study = Annotated[str, typer.Argument(metavar="STUDY", help="A study's YAML file, or its name in the store.")]
Set = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a field; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, and nothing else.")]
StoreUrl = Annotated[
    str, typer.Option("--store", envvar="SECATEUR_STORE", metavar="URL", help="A folder, or s3://bucket/prefix.")
]
Device = Annotated[str, typer.Option("--device", help="A device profile: its name or file.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="As in a study, such as torchvision:mobilenet_v2.")]
DatasetName = Annotated[str, typer.Option("--dataset", help="As in a study: digits, imagefolder:PATH, ...")]
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
SPARSITIES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
"""Li et al. 2017 prune 10 to 90 % of each layer's filters (figure 2b)."""


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"secateur {__version__}")
        raise typer.Exit


Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
]
