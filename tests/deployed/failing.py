"""A `measure` flow that fails, as a deployment's entry point."""

from __future__ import annotations

from prefect import flow


@flow(name="measure")
async def measure(study: str, labels: list[str], store: str) -> None:
    """Fail."""
    raise RuntimeError("the device fell off")
