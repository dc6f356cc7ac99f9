"""What a user writes: studies, device profiles, constraints."""

from secateur.config.champion import ChampionRule
from secateur.config.constraints import Constraint
from secateur.config.device import DeviceProfile, load_device
from secateur.config.fields import ParameterValue
from secateur.config.metrics import METRICS
from secateur.config.parameters import Choice, Counts, Fixed, Parameter, Range
from secateur.config.provenance import unseen_validation
from secateur.config.study import (
    Budget,
    Dataset,
    FromTest,
    Normalize,
    Search,
    Study,
    Training,
    load_study,
    locate_study,
    parse_study,
)

__all__ = [
    "METRICS",
    "Budget",
    "ChampionRule",
    "Choice",
    "Constraint",
    "Counts",
    "Dataset",
    "DeviceProfile",
    "Fixed",
    "FromTest",
    "Normalize",
    "Parameter",
    "ParameterValue",
    "Range",
    "Search",
    "Study",
    "Training",
    "load_device",
    "load_study",
    "locate_study",
    "parse_study",
    "unseen_validation",
]
