"""Latency on the device itself: measured by a program of its own, paired with a reference."""

from secateur.benchmark.client import describe, list_devices, measure

__all__ = ["describe", "list_devices", "measure"]
