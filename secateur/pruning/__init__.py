"""Pruning: a compression schedule at work on a network."""

from secateur.pruning.engine import ScheduleEngine

__all__ = ["ScheduleEngine"]
