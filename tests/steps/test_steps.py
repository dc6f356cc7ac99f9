"""The steps of a trial, on a real store, a real network and the real CPU."""

from __future__ import annotations

import copy
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from secateur import progress
from secateur.benchmark import client
from secateur.candidate import Workshop
from secateur.config import Choice, Fixed, Study
from secateur.errors import DatasetError, MeasurementError, NotFoundError, StudyError
from secateur.results import OFF_THE_SHELF, UNPRUNED, Failure, Scores, StudyResults, TrialRecord
from secateur.steps.compress import compress
from secateur.steps.compress import test as evaluate_finalist
from secateur.steps.measure import measure
from secateur.steps.open import open_study
from secateur.steps.propose import observe, propose, queue
from secateur.steps.record import measured, proposed
from secateur.steps.source import find_study, stored_study
from secateur.store import Store, StudyFiles, open_store
from tests.factories import make_compressed, make_latency, make_record
from tests.fakes import MemoryStore
from tests.flows.tiny import DEVICE, SCHEDULE, STUDY, TinyNetwork, write_study


@pytest.fixture(autouse=True)
def own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep out of the way of measurements that run beside the tests."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    torch.manual_seed(3)
    torch.save(TinyNetwork(3).state_dict(), tmp_path / "tiny.pt")
    return make_study(weights=tmp_path / "tiny.pt", weights_have_seen="other data")


def make_study(**changes: Any) -> Study:
    return Study.model_validate(
        {**STUDY, "schedule": copy.deepcopy(SCHEDULE), "device": DEVICE, "training": {"epochs": 0}, **changes}
    )


def begin(store: Store, study: Study) -> StudyFiles:
    files = StudyFiles(store, study.name)
    open_study(files, study)
    return files


def write(files: StudyFiles, label: str, **sparsities: float) -> TrialRecord:
    record = proposed(
        files.name,
        label,
        method="random",
        parameters={f"{name}.desired_sparsity": value for name, value in sparsities.items()},
        seed=0,
    )
    files.write_record(record)
    return record


# --- open


def test_a_study_is_written_down_with_all_it_needs(study: Study) -> None:
    files = StudyFiles(MemoryStore(), study.name)
    assert not files.exists()
    opened = open_study(files, study)
    assert stored_study(files) == opened
    assert opened.schedule == SCHEDULE
    assert open_study(files, study) == opened


def test_a_budget_may_change_and_nothing_else(study: Study) -> None:
    files = begin(MemoryStore(), study)
    assert open_study(files, study, trials=9).budget.trials == 9
    assert stored_study(files).budget.trials == 9
    other = study.model_copy(update={"training": study.training.model_copy(update={"lr": 0.5})})
    with pytest.raises(
        StudyError,
        match=r"study 'tiny' in memory was begun with other settings: training.lr was 0.01, is 0.5. Give .* --fresh",
    ):
        open_study(files, other)
    assert open_study(files, other, fresh=True).training.lr == 0.5


def test_a_study_that_has_grown_does_not_shrink(study: Study) -> None:
    files = begin(MemoryStore(), study)
    for index in range(5):
        write(files, str(index))
    assert open_study(files, study, trials=5).budget.trials == 5
    assert open_study(files, study).budget.trials == 5  # the file says 3
    assert open_study(files, study, trials=2).budget.trials == 5


def test_starting_over_forgets_the_trials(study: Study) -> None:
    files = begin(MemoryStore(), study)
    write(files, "0")
    open_study(files, study)
    assert len(files.trials()) == 1
    open_study(files, study, fresh=True)
    assert files.trials() == ()


def test_additional_trials_do_not_add_up_before_they_were_made(study: Study) -> None:
    files = begin(MemoryStore(), study)
    assert open_study(files, study, additional_trials=2).budget.trials == 3  # the study's own, not made yet
    records = [write(files, str(index)) for index in range(3)]
    assert open_study(files, study, additional_trials=2).budget.trials == 3  # proposed, not finished
    for record in records:
        files.write_record(record.model_copy(update={"state": "completed"}))
    files.write_record(write(files, "3").model_copy(update={"method": "manual"}))  # queued by a person
    assert open_study(files, study, additional_trials=2).budget.trials == 6
    assert open_study(files, study, additional_trials=2).budget.trials == 6  # again, after a kill


def test_a_wrong_study_is_not_written_down(study: Study) -> None:
    files = StudyFiles(MemoryStore(), study.name)
    with pytest.raises(StudyError, match=r"no parameter 'pruner_0.desired_sparsity'"):
        open_study(files, study.model_copy(update={"schedule": {"policies": []}}))
    assert not files.exists()


# --- source


def test_a_study_is_found_by_file_or_by_name(tmp_path: Path) -> None:
    path, url = write_study(tmp_path), str(tmp_path / "store")
    files, study = find_study(str(path), url, ["budget.trials=5"])
    assert (files.name, study.budget.trials) == ("tiny", 5)
    open_study(files, study)
    again, stored = find_study("tiny", url)
    assert (again.name, stored) == ("tiny", stored_study(files))


def test_a_shipped_study_is_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_study("schedules/studies/quickstart.yaml", "store")[1].name == "quickstart"


def test_a_study_that_is_not_there(tmp_path: Path, study: Study) -> None:
    url = str(tmp_path / "store")
    begin(open_store(url), study)
    with pytest.raises(StudyError, match=r"study 'tinny' in .*: there is none. Did you mean 'tiny'\? 'secateur sweep"):
        find_study("tinny", url)
    with pytest.raises(StudyError, match=r"nowhere.yaml: there is no such file"):
        find_study("nowhere.yaml", url)
    with pytest.raises(StudyError, match="study 'tiny' was begun before: its settings cannot be overridden"):
        find_study("tiny", url, ["budget.trials=5"])


def test_a_damaged_study_is_refused() -> None:
    files = StudyFiles(MemoryStore(), "tiny")
    files.write_study_yaml("name: tiny\n")
    with pytest.raises(StudyError, match="study 'tiny' in memory:1: 'model' is missing"):
        stored_study(files)


# --- propose


def test_proposals_are_written_before_they_are_handed_over(study: Study) -> None:
    files = begin(MemoryStore(), study)
    records = propose(files, study, files.results(), 2)
    assert [record.label for record in records] == ["0", "1"]
    assert files.trials() == tuple(records)
    assert all(record.state == "proposed" and record.method == "random" for record in records)
    assert propose(files, study, files.results(), 2)[0].label == "2"
    assert files.read_optimiser() is None  # random search has no state
    observe(files, study, files.results())
    assert files.read_optimiser() is None


def test_the_same_study_proposes_the_same(study: Study) -> None:
    points = [
        [record.parameters for record in propose(begin(MemoryStore(), study), study, StudyResults(
            study={}, baselines={}, trials=()), 3)]
        for _ in range(2)
    ]  # fmt: skip
    assert points[0] == points[1]


def test_a_number_that_a_person_took_meanwhile_is_left_to_them(study: Study) -> None:
    files = begin(MemoryStore(), study)
    before = files.results()
    own = queue(files, study, {"pruner_0.desired_sparsity": 0.25})
    records = propose(files, study, before, 2)
    assert [record.label for record in records] == ["1", "2"]
    assert files.trials() == (own, *records)
    assert propose(files, study, before, 2) == records  # a second attempt finds what the first has written


def test_points_of_known_networks_are_counted_and_passed_over(study: Study) -> None:
    files = begin(MemoryStore(), study)
    propose(files, study, files.results(), 30)
    kept = {tuple(math.floor(8 * float(value)) for value in trial.parameters.values()) for trial in files.trials()}
    assert len(kept) == 30
    assert sum(trial.num_repeats for trial in files.trials()) > 0


def test_a_finished_space_is_said(study: Study) -> None:
    said: list[str] = []

    class Listener(progress.Silent):
        def message(self, text: str) -> None:
            said.append(text)

    fixed = {
        "pruner_0.desired_sparsity": Choice(values=(0.0, 0.5, 0.55)),
        "pruner_1.desired_sparsity": Fixed(value=0.5),
    }
    study = study.model_copy(update={"search": study.search.model_copy(update={"parameters": fixed})})
    files = begin(MemoryStore(), study)
    with progress.show_on(Listener()):
        assert len(propose(files, study, files.results(), 5)) == 2
    assert said == ["tiny: 2 trials hold every network that was found in the search space."]


# --- compress, test


def test_compressing_twice_changes_nothing(study: Study) -> None:
    files = begin(MemoryStore(), study)
    workshop = Workshop(study=study, store=files.store)
    for label in (UNPRUNED, OFF_THE_SHELF, "0"):
        write(files, label)
        record = compress(workshop, files, label, 1)
        assert (record.state, record.compressed is None) == ("compressed", False)
        assert record.seconds.keys() == {"propose", "compress"}
        assert record.versions.keys() >= {"torch", "secateur"}
        assert compress(workshop, files, label, 1) == record == files.read_record(label)
    assert [files.read_record(label).is_reused for label in (OFF_THE_SHELF, "0")] == [False, True]


def test_a_network_that_was_made_before_names_its_trial(study: Study) -> None:
    files = begin(MemoryStore(), study)
    workshop = Workshop(study=study, store=files.store)
    for label, sparsity in ((UNPRUNED, None), ("0", 0.25), ("1", 0.3), ("2", 0.5)):
        write(files, label, **({} if sparsity is None else {"pruner_0": sparsity}))
        compress(workshop, files, label, 1)
    assert [trial.same_as for trial in files.trials()] == [None, "0", None]
    assert [trial.is_reused for trial in files.trials()] == [False, True, False]


def test_a_replicate_is_trained_again_with_its_own_seed(study: Study) -> None:
    study = study.model_copy(update={"training": study.training.model_copy(update={"epochs": 1, "batch_size": 16})})
    files = begin(MemoryStore(), study)
    workshop = Workshop(study=study, store=files.store)
    for label, seed in ((UNPRUNED, 0), ("0", 0), ("1", 7), ("2", 7)):
        record = write(files, label, **({} if label == UNPRUNED else {"pruner_0": 0.25}))
        files.write_record(record.model_copy(update={"seed": seed}))
        compress(workshop, files, label, 1)
    one, replicate, again = files.trials()
    assert one.compressed is not None
    assert replicate.compressed is not None
    assert replicate.compressed.layers == one.compressed.layers
    assert replicate.compressed.checkpoint != one.compressed.checkpoint
    assert (replicate.is_reused, replicate.same_as) == (False, None)
    assert (again.is_reused, again.same_as) == (True, "1")


def test_settings_of_training_may_be_a_trials_own(study: Study) -> None:
    files = begin(MemoryStore(), study)
    workshop = Workshop(study=study, store=files.store)
    write(files, UNPRUNED)
    compress(workshop, files, UNPRUNED, 1)
    parameters: dict[str, Any] = {"pruner_0.desired_sparsity": 0.25, "training.epochs": 2, "training.batch_size": 16}
    files.write_record(proposed(files.name, "0", method="random", parameters=parameters, seed=0))
    compressed = compress(workshop, files, "0", 1).compressed
    assert compressed is not None
    assert [epoch.epoch for epoch in compressed.epochs] == [-1, 0, 1]


def test_what_cannot_be_thinned_is_a_failed_trial(study: Study) -> None:
    schedule = copy.deepcopy(SCHEDULE)
    schedule["pruners"]["pruner_0"]["weights"] = ["blocks.0.conv2.weight"]
    study = study.model_copy(update={"schedule": schedule})
    files = begin(MemoryStore(), study)
    workshop = Workshop(study=study, store=files.store)
    for label in (UNPRUNED, "0"):
        write(files, label)
        record = compress(workshop, files, label, 1)
    assert record.state == "failed"
    assert record.failure is not None
    assert (record.failure.phase, record.failure.type) == ("compress", "ThinningError")
    assert "share their channels" in record.failure.message
    assert record.finished_at is not None
    assert files.read_record("0") == record
    assert compress(workshop, files, "0", 1) == record


def test_what_is_wrong_with_the_study_leaves_the_trial_as_it_was(study: Study) -> None:
    study = study.model_copy(update={"dataset": study.dataset.model_copy(update={"name": "python:tests.nowhere:f"})})
    files = begin(MemoryStore(), study)
    before = write(files, UNPRUNED)
    with pytest.raises(DatasetError, match=r"tests\.nowhere"):
        compress(Workshop(study=study, store=files.store), files, UNPRUNED, 1)
    assert files.read_record(UNPRUNED) == before


def test_without_the_unpruned_network_there_is_nothing_to_prune() -> None:
    study = make_study(baseline={"epochs": 1, "lr": 1e30, "batch_size": 16})
    files = begin(MemoryStore(), study)
    workshop = Workshop(study=study, store=files.store)
    write(files, "0")
    with pytest.raises(NotFoundError, match=UNPRUNED):
        compress(workshop, files, "0", 1)
    write(files, UNPRUNED)
    with pytest.raises(StudyError, match=r"study 'tiny': there is no unpruned network to begin with\.$"):
        compress(workshop, files, "0", 1)
    assert compress(workshop, files, UNPRUNED, 1).state == "failed"
    with pytest.raises(
        StudyError, match=r"no unpruned network to begin with. It failed: .*(Lower training.lr|diverged)"
    ):
        compress(workshop, files, "0", 1)
    with pytest.raises(StudyError, match="study 'tiny': there is no unpruned network to compare with"):
        measure(files, study.device, [measurable(files)], seed=0)


def measurable(files: StudyFiles) -> str:
    files.write_record(files.read_record("0").model_copy(update={"state": "compressed"}))
    return "0"


def test_test_data_are_touched_once(study: Study) -> None:
    files = begin(MemoryStore(), study)
    workshop = Workshop(study=study, store=files.store)
    write(files, UNPRUNED)
    assert evaluate_finalist(workshop, files, UNPRUNED, 1).test is None  # nothing to test yet
    compress(workshop, files, UNPRUNED, 1)
    tested = evaluate_finalist(workshop, files, UNPRUNED, 1)
    assert tested.test is not None
    assert (tested.test.num_images, len(tested.test.accessed_at)) == (24, 1)
    assert evaluate_finalist(workshop, files, UNPRUNED, 1) == tested == files.read_record(UNPRUNED)


def test_weights_that_nobody_vouches_for_are_warned_of_once(study: Study) -> None:
    told: list[str] = []

    class Listener(progress.Silent):
        def message(self, text: str) -> None:
            told.append(text)

    files = StudyFiles(MemoryStore(), study.name)
    with progress.show_on(Listener()):
        for _ in range(2):
            open_study(files, study.model_copy(update={"weights_have_seen": None}))
    [warning] = told
    assert "Nobody says what the weights" in warning


@pytest.mark.parametrize(("num_predicted_classes", "state"), [(1, "suspect"), (2, "completed")])
def test_a_network_that_says_the_same_of_every_image_is_suspect(num_predicted_classes: int, state: str) -> None:
    validation = Scores(top1=33.3, top5=100.0, loss=1.1, num_images=24, num_predicted_classes=num_predicted_classes)
    compressed = make_compressed(validation=validation)
    record = make_record(state="compressed", latency_ratio=None).model_copy(update={"compressed": compressed})
    assert measured(record, make_latency(0.5), 1.0).state == state


# --- measure, on the real CPU


def test_a_trial_from_proposal_to_completion(tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    files = begin(open_store(str(tmp_path / "store")), study)
    workshop = Workshop(study=study, store=files.store)
    write(files, UNPRUNED)
    for label, sparsity in {"0": 0.65, "1": 0.70, "2": 0.25}.items():  # the first two are one network
        write(files, label, pruner_0=sparsity)
    labels = [UNPRUNED, "0", "1"]
    for label in labels:
        compress(workshop, files, label, 1)

    measured = {record.label: record for record in measure(files, study.device, labels, seed=0)}
    assert list(measured) == labels
    for label, record in measured.items():
        assert record.state in {"completed", "suspect"}  # untrained, it may know one class only
        assert record.latency is not None
        assert record.latency.device.profile == "quick"
        assert record.seconds.keys() == {"propose", "compress", "measure"}
        assert files.read_record(label) == record
    assert measured["0"].latency == measured["1"].latency
    assert not any(record.latency.is_reused for record in measured.values() if record.latency)

    asked: list[str] = []
    really_ask = client._ask

    def ask(request: Any, *arguments: Any, **options: Any) -> Any:
        asked.append(request["command"])
        return really_ask(request, *arguments, **options)

    monkeypatch.setattr(client, "_ask", ask)
    assert measure(files, study.device, labels, seed=0) == []  # nothing left to do, no device touched
    assert asked == []
    write(files, "3", pruner_0=0.70)
    compress(workshop, files, "3", 1)
    (known,) = measure(files, study.device, ["3"], seed=0)
    assert asked == ["describe"]  # the architecture was measured on this device before
    assert known.latency is not None
    assert known.latency.is_reused
    assert known.latency.latency_ratio == measured["0"].latency.latency_ratio  # type: ignore[union-attr]
    compress(workshop, files, "2", 1)
    measure(files, study.device, ["2"], seed=0)
    assert asked[:3] == ["describe", "describe", "measure"]
    assert set(asked[3:]) <= {"measure"}  # on a busy machine, until the interval is narrow


def test_a_network_that_cannot_be_measured_fails_its_own_trial(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    files = begin(MemoryStore(), study)
    workshop = Workshop(study=study, store=files.store)
    write(files, UNPRUNED)
    write(files, "0", pruner_0=0.65)
    for label in (UNPRUNED, "0"):
        compress(workshop, files, label, 1)
    really_measure = client.measure

    def measure_one(paths: Any, *arguments: Any, **options: Any) -> Any:
        good, _ = really_measure(paths, *arguments, **options)
        return [good, MeasurementError("it melted")]

    monkeypatch.setattr("secateur.benchmark.measure", measure_one)
    unpruned, failed = measure(files, study.device, [UNPRUNED, "0"], seed=0)
    assert unpruned.state in {"completed", "suspect"}
    assert failed.state == "failed"
    assert failed.failure == Failure(phase="measure", type="MeasurementError", message="it melted")
    assert files.read_record("0") == failed


def test_a_device_that_is_not_there_leaves_the_trial_as_it_was(study: Study) -> None:
    files = begin(MemoryStore(), study)
    write(files, UNPRUNED)
    record = compress(Workshop(study=study, store=files.store), files, UNPRUNED, 1)
    device = study.device.model_copy(update={"device": "MYRIAD"})
    with pytest.raises(StudyError, match=r"device profile 'quick': .*MYRIAD"):
        measure(files, device, [UNPRUNED], seed=0)
    assert files.read_record(UNPRUNED) == record
