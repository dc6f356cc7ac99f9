"""Is latency a matter of shape? By hand, by law, and on the real CPU."""

from __future__ import annotations

import copy
import json
import math
import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from secateur.benchmark import client
from secateur.candidate import Workshop
from secateur.cli.premise import premise as command
from secateur.cli.premise import verdict
from secateur.config import Study
from secateur.errors import StudyError
from secateur.findings import TrainedTwin
from secateur.results import UNPRUNED, Interval
from secateur.steps.compress import compress
from secateur.steps.measure import measure
from secateur.steps.open import open_study
from secateur.steps.premise import equivalence, examine_premise
from secateur.steps.record import proposed
from secateur.store import StudyFiles, open_store
from tests.factories import make_device
from tests.flows.tiny import DEVICE, SCHEDULE, STUDY


def twins(*ratios: float) -> list[TrainedTwin]:
    return [
        TrainedTwin(trial=str(i), latency_ratio=Interval(estimate=r, low=r, high=r, standard_error=0.0), is_noisy=False)
        for i, r in enumerate(ratios)
    ]


# --- the test


def test_equivalence_by_hand() -> None:
    # logarithms -0.01, 0, 0.01: mean 0, deviation 0.01, error 0.01 / sqrt 3; t(0.95, 2) = 2.920
    premise = equivalence(twins(math.exp(-0.01), 1.0, math.exp(0.01)), make_device(), tolerance=0.01)
    assert premise.spread == pytest.approx(0.01)
    assert premise.mean_ratio.estimate == pytest.approx(1.0)
    assert math.log(premise.mean_ratio.high) == pytest.approx(2.920 * 0.01 / math.sqrt(3), abs=1e-5)
    assert not premise.holds
    assert premise.largest_change == pytest.approx(math.exp(0.01) - 1)


@given(st.lists(st.floats(0.9, 1.1), min_size=3, max_size=30, unique=True), st.floats(0.005, 0.2))
def test_equivalence_is_two_one_sided_t_tests(ratios: list[float], tolerance: float) -> None:
    premise = equivalence(twins(*ratios), make_device(), tolerance)
    logs, bound = [math.log(ratio) for ratio in ratios], math.log1p(tolerance)
    if premise.spread > 1e-6:
        both = [
            ttest_1samp(logs, -bound, alternative="greater").pvalue,
            ttest_1samp(logs, bound, alternative="less").pvalue,
        ]
        assert premise.p_value == pytest.approx(max(both), abs=1e-9)
    is_within = -bound < math.log(premise.mean_ratio.low) and math.log(premise.mean_ratio.high) < bound
    assert premise.holds is is_within


def test_equal_latencies_are_equivalent() -> None:
    assert equivalence(twins(1.001, 1.001, 1.001), make_device()).holds
    assert not equivalence(twins(1.02, 1.02, 1.02), make_device()).holds


@pytest.mark.parametrize(
    ("ratios", "told"),
    [
        ((1.0, 1.002, 0.999, 1.001), r"is a matter of shape here\. The gate is on, and allows for 0\.20%"),
        ((1.0, 1.05, 0.9, 1.1), r"10\.00% at most in 4 networks.*\n.*was not shown .* There is no gate\."),
    ],
)
def test_what_was_found_is_said_plainly(ratios: tuple[float, ...], told: str) -> None:
    found = verdict(equivalence(twins(*ratios), make_device()))
    assert found.startswith("Training changes latency by ")
    assert re.search(told, found), found


# --- on the real CPU


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyFiles:
    """A study of three trained networks, two of them of one shape."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    device = {**DEVICE, "max_duration_s": 0.3}
    study = Study.model_validate({**STUDY, "schedule": copy.deepcopy(SCHEDULE), "device": device})
    files = StudyFiles(open_store(str(tmp_path / "store")), study.name)
    study = open_study(files, study)
    workshop = Workshop(study=study, store=files.store)
    for label, sparsity in {UNPRUNED: 0.0, "0": 0.6, "1": 0.3, "2": 0.3}.items():
        parameters = {} if label == UNPRUNED else {"pruner_0.desired_sparsity": sparsity}
        files.write_record(proposed(study.name, label, method="random", parameters=parameters, seed=0))
        compress(workshop, files, label, 1)
    measure(files, study.device, [UNPRUNED, "0", "1", "2"], seed=0)
    return files


def test_trained_networks_are_measured_against_themselves_untrained(
    files: StudyFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[list[str]] = []
    really_ask = client._ask

    def ask(request: dict[str, Any], *arguments: Any, **options: Any) -> Any:
        if request["command"] == "measure":
            asked.append([request["reference"], *request["models"]])
        return really_ask(request, *arguments, **options)

    monkeypatch.setattr(client, "_ask", ask)
    command(files.name, 2, str(tmp_path / "store"), as_json=True)
    document = json.loads(capsys.readouterr().out)
    premise = files.read_premise()
    assert premise is not None
    assert document == {
        "study": files.name,
        "holds": premise.holds,
        "largest_change": premise.largest_change,
        **premise.model_dump(mode="json"),
    }
    assert [twin.trial for twin in premise.twins] == ["0", "1"]  # one of each shape
    assert all(0.5 < twin.latency_ratio.estimate < 2 for twin in premise.twins)
    assert len({tuple(paths) for paths in asked}) == len(asked) >= 2
    assert premise.device.profile == "quick"

    with pytest.raises(StudyError, match=r"study 'tiny': 3 trained networks of different shapes .* there are 2\. Run"):
        examine_premise(files, Study.model_validate(files.results().study), 3)


def test_without_training_there_is_no_before_and_after(files: StudyFiles) -> None:
    study = Study.model_validate(files.results().study)
    untrained = study.model_copy(update={"training": study.training.model_copy(update={"epochs": 0})})
    with pytest.raises(StudyError, match="study 'tiny': nothing is trained"):
        examine_premise(files, untrained, 2)
