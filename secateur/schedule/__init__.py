"""Compression schedules: Distiller's YAML, unchanged."""

from secateur.schedule.classes import RankedStructurePruner, Remover
from secateur.schedule.fit import check_fit, resolve_name
from secateur.schedule.lr import lr_sequence
from secateur.schedule.schedule import Entry, Policy, Schedule, load_schedule, parse_schedule

__all__ = [
    "Entry",
    "Policy",
    "RankedStructurePruner",
    "Remover",
    "Schedule",
    "check_fit",
    "load_schedule",
    "lr_sequence",
    "parse_schedule",
    "resolve_name",
]
