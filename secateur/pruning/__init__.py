"""Pruning: which filters and channels go, and when."""

from secateur.pruning.engine import ScheduleEngine
from secateur.pruning.ranking import count_removed, keep_mask, rank_structures

__all__ = ["ScheduleEngine", "count_removed", "keep_mask", "rank_structures"]
