"""`secateur bundle`, `secateur train`, and back."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Secateur
from tests.flows.tiny import write_study


def test_out_and_back(secateur: Secateur, tmp_path: Path) -> None:
    study = write_study(tmp_path)
    out = secateur("bundle", study, "jobs", "--trials", "1")
    assert out.code == 0, out.err
    assert "off_the_shelf" in out.out
    assert "There: 'python -m secateur.training jobs results'." in out.out

    trained = secateur("train", "jobs", "results")
    assert trained.code == 0, trained.err
    assert trained.out == "2 of 2 candidates are trained. Results: results\n"

    back = secateur("bundle", study, "results", "--take-back", "--json")
    assert back.code == 0, back.err
    candidates = json.loads(back.out)["candidates"]
    assert [(c["label"], c["fate"]) for c in candidates] == [("off_the_shelf", "taken back"), ("0", "taken back")]
    again = secateur("bundle", study, "results", "--take-back", "--json")
    assert [c["fate"] for c in json.loads(again.out)["candidates"]] == ["known", "known"]


def test_a_study_that_was_never_begun_takes_nothing_back(secateur: Secateur, tmp_path: Path) -> None:
    failed = secateur("bundle", write_study(tmp_path), "results", "--take-back")
    assert failed.code == 2
    assert "'secateur sweep FILE' begins one" in failed.err


def test_a_folder_without_jobs_is_named(secateur: Secateur) -> None:
    failed = secateur("train", "nothing", "results")
    assert failed.code == 2
    assert "nothing: there are no jobs" in failed.err
