"""What a network is made of, what of it can go, and what that costs: for schedules that no expert has written."""

from secateur.analysis.sensitivity import analyse, check_sparsities
from secateur.analysis.subject import Subject, read_subject

__all__ = ["Subject", "analyse", "check_sparsities", "read_subject"]
