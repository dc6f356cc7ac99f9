"""Latency on the device itself: measured by a program of its own, paired with a reference."""

from secateur.benchmark.client import (
    Measured,
    convert,
    describe,
    list_devices,
    measure,
    predict,
    unsupported_operations,
)
from secateur.benchmark.ledger import energy_ledger
from secateur.benchmark.quality import assess

__all__ = [
    "Measured",
    "assess",
    "convert",
    "describe",
    "energy_ledger",
    "list_devices",
    "measure",
    "predict",
    "unsupported_operations",
]
