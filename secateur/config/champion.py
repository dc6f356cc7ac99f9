"""By which rule a study's champion is chosen."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ChampionRule(BaseModel):
    """How many of the best trials compete, and how much accuracy the winner may cost: see docs/champions.md."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    contenders: int = Field(3, ge=1, description="Best trials that compete.")
    seeds: int = Field(3, ge=2, description="Fresh seeds each of them is retrained with.")
    margin: float = Field(1.0, gt=0, description="Points of top1 below the unpruned network that are no loss.")
