"""A champion is chosen, promoted, exported, measured again, and kept by `gc`: real commands, a real server and device."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest

from secateur.results import UNPRUNED
from secateur.store import StudyFiles, open_store, put_object
from secateur.thinning import rebuild
from tests.flows.tiny import write_study
from tests.runs import Ended, Runs

STORE = ("--store", "store")
CHAMPION = ("champion", "study.yaml", "--promote", *STORE)
NUM_CONTENDERS, NUM_SEEDS = 2, 2
STUDY = {
    "model": "python:tests.flows.tiny:wide_network",
    "search.parameters": {"pruner_0.desired_sparsity": {"values": [0.7, 0.9]}, "pruner_1.desired_sparsity": {"values": [0.8, 0.9]}},
    "search.constraints": [],
    "budget.trials": 2,
    "champion": {"contenders": NUM_CONTENDERS, "seeds": NUM_SEEDS, "margin": 1e6},
}


@pytest.fixture(scope="module")
def swept(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study."""
    folder = tmp_path_factory.mktemp("champion")
    write_study(folder, STUDY)
    ended = runs.run(folder, "sweep", "study.yaml", *STORE)
    assert ended.code == 0, ended.err
    return folder


@pytest.fixture(scope="module")
def promoted(runs: Runs, swept: Path) -> Path:
    """The same, with a champion that was chosen in three attempts."""
    num_trained = 0
    for event in ("after put cache/compressed", "before runner evaluate"):
        ended = runs.run(swept, *CHAMPION, kill_at=_number_of(runs, swept, event))
        assert ended.code == -signal.SIGKILL, ended.err
        num_trained += ended.trained
    ended = runs.run(swept, *CHAMPION)
    assert ended.code == 0, ended.err
    assert num_trained + ended.trained == NUM_CONTENDERS * NUM_SEEDS  # nothing twice
    assert "Champion: network " in ended.out
    return swept


def _number_of(runs: Runs, folder: Path, event: str) -> int:
    raise NotImplementedError


def _files(folder: Path) -> StudyFiles:
    return StudyFiles(open_store(str(folder / "store")), "tiny")
