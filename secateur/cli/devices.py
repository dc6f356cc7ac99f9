"""`secateur devices`: no torch, no Prefect, so that it answers fast on an edge host."""

from __future__ import annotations

from secateur import resources
from secateur.benchmark import list_devices
from secateur.cli.output import print_json, print_table
from secateur.config import load_device


def devices(*, as_json: bool) -> None:
    """List devices and profiles."""
    found = list_devices()
    profiles = [load_device(path.stem) for path in sorted(resources.find("infra/devices").glob("*.yaml"))]
    if as_json:
        print_json({"devices": found, "profiles": [profile.model_dump(mode="json") for profile in profiles]})
        return
    print_table("Devices of this host", ("device", "name"), [(d["name"], d["full_name"]) for d in found])
    columns = ("profile", "device", "threads", "precision")
    rows = [(p.name, p.target, p.num_threads or "auto", p.precision or "auto") for p in profiles]
    print_table("Device profiles", columns, rows)
