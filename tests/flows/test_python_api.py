"""A study from Python, as in a notebook."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.flows.processes import left_in
from tests.runs import ROOT


@pytest.mark.slow  # two Prefect servers, one after the other
def test_a_notebook_runs_a_study_with_parts_of_its_own(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "SECATEUR_"))}
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/flows/notebook.py")],
        cwd=tmp_path,
        env={**own, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    first, second = json.loads(done.stdout)
    assert (first["states"], second["states"]) == (["completed"], ["completed"] * 2)
    assert all("red_recall" in metrics for metrics in second["metrics"])
    assert first["tested"] and all(first["tested"]) and all(second["tested"])
    assert left_in(tmp_path) == []
