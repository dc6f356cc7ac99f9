"""Compression schedules: Distiller's YAML, unchanged."""

from secateur.schedule.fit import check_fit
from secateur.schedule.options import PruningOptions, RegularizationOptions
from secateur.schedule.schedule import Entry, Policy, Schedule, load_schedule, parse_schedule

__all__ = [
    "Entry",
    "Policy",
    "PruningOptions",
    "RegularizationOptions",
    "Schedule",
    "check_fit",
    "load_schedule",
    "parse_schedule",
]
