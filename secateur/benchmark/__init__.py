"""Latency on the device itself: measured by a program of its own, paired with a reference."""

from secateur.benchmark.client import Measured, describe, list_devices, measure, predict, unsupported_operations

__all__ = ["Measured", "describe", "list_devices", "measure", "predict", "unsupported_operations"]
