"""Dataclasses from JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import pytest

from secateur.errors import JobError
from secateur.training import TrainingSettings
from secateur.training.documents import from_json


@dataclass(frozen=True, kw_only=True)
class Inner:
    rates: tuple[float, ...]
    pair: tuple[int, str]


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner
    name: str | None
    kind: Literal["a", "b"] = "a"
    is_set: bool = False
    size: int = 1


RIGHT: dict[str, Any] = {"inner": {"rates": [1, 0.5], "pair": [2, "x"]}, "name": None}


def test_what_json_says_becomes_a_dataclass() -> None:
    assert from_json(Outer, RIGHT, "x.json") == Outer(inner=Inner(rates=(1, 0.5), pair=(2, "x")), name=None)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"nmae": 1}, "unknown key 'nmae'. Did you mean 'name'?"),
        ({"name": 3}, "name: expected str, got 3."),
        ({"kind": "c"}, r"kind: expected Literal\['a', 'b'\], got 'c'."),
        ({"is_set": 1}, "is_set: expected bool, got 1."),
        ({"size": True}, "size: expected int, got True."),
        ({"size": 1.0}, "size: expected int, got 1.0."),
        ({"inner": []}, r"inner: expected a JSON object, got \[\]."),
        ({"inner": {"rates": [1]}}, "inner: 'pair' is missing."),
        ({"inner": {"rates": [1, "fast"], "pair": [1, "x"]}}, r"inner: rates\[1\]: expected float, got 'fast'."),
        ({"inner": {"rates": 1, "pair": [1, "x"]}}, r"inner: rates: expected tuple\[float, ...\], got 1."),
        ({"inner": {"rates": [], "pair": [1]}}, r"inner: pair: expected tuple\[int, str\], got \[1\]."),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_is_named(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(JobError, match=rf"^x\.json: {problem}"):
        from_json(Outer, RIGHT | change, "x.json")


def test_training_settings_survive_json() -> None:
    settings = TrainingSettings(epochs=3, lr=0.1, flip=False)
    assert from_json(TrainingSettings, asdict(settings), "here") == settings
