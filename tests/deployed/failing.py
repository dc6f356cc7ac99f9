"""A `measure` flow that fails, as a deployment's entry point."""

from __future__ import annotations

from typing import Any

from prefect import flow


@flow(name="measure")
async def measure(**parameters: Any) -> None:
    """Fail."""
    raise RuntimeError("the device fell off")
