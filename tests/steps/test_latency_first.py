"""Candidates are measured before they are trained, and those that cannot win are not."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from secateur import benchmark
from secateur.admissibility import check_study
from secateur.candidate import Workshop
from secateur.config import Study
from secateur.errors import MeasurementError, StudyError
from secateur.findings import Premise, TrainedTwin
from secateur.progress import show_on
from secateur.results import UNPRUNED, Gate, TrialRecord
from secateur.retraining import checkpoint_path
from secateur.steps.admission import admit, is_gated, shift_of
from secateur.steps.compress import compress, export_untrained
from secateur.steps.measure import measure
from secateur.steps.open import open_study
from secateur.steps.record import proposed
from secateur.store import StudyFiles
from tests.benchmark.test_supervision import RecordingDisplay
from tests.factories import make_compressed, make_device, make_latency, make_record
from tests.fakes import MemoryStore
from tests.flows.tiny import DEVICE, SCHEDULE, STUDY

EPOCHS = 3


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path))


def make_study(**changes: Any) -> Study:
    training = {"epochs": EPOCHS, "lr": 0.05, "batch_size": 16}
    document = {**STUDY, "schedule": copy.deepcopy(SCHEDULE), "device": DEVICE, "training": training, "gate": True}
    return Study.model_validate({**document, **changes})


@pytest.fixture
def study() -> Study:
    return check_study(make_study())


@pytest.fixture
def files(study: Study) -> StudyFiles:
    files = StudyFiles(MemoryStore(), study.name)
    files.write_study_yaml(study.to_yaml())
    files.write_record(proposed(study.name, UNPRUNED, method="baseline", parameters={}, seed=0))
    workshop = Workshop(study=study, store=files.store)
    compress(workshop, files, UNPRUNED, 1)
    return files


def propose(files: StudyFiles, label: str, sparsity: float, **changes: Any) -> TrialRecord:
    parameters = {"pruner_0.desired_sparsity": sparsity}
    record = proposed(files.name, label, method="random", parameters=parameters, seed=0).model_copy(update=changes)
    files.write_record(record)
    return record


class Device:
    """Answers in the place of a device: every network takes the same ratio."""

    def __init__(self, ratio: float) -> None:
        self.ratio: float | None = ratio
        self.num_measured = 0

    def __call__(self, paths: list[Path], *arguments: Any, **options: Any) -> list[Any]:
        self.num_measured += len(paths)
        if self.ratio is None:
            return [MeasurementError("it melted") for _ in paths]
        return [make_latency(self.ratio) for _ in paths]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device(0.5)
    monkeypatch.setattr(benchmark, "measure", device)
    monkeypatch.setattr(benchmark, "describe", lambda profile: make_device())
    return device


def rival(files: StudyFiles, label: str, **changes: Any) -> None:
    """A trial that was completed before."""
    files.write_record(make_record(label, study=files.name, **changes))


# --- a trial's way


def test_a_trial_is_measured_untrained_judged_trained_and_not_measured_again(
    study: Study, files: StudyFiles, device: Device
) -> None:
    workshop = Workshop(study=study, store=files.store)
    propose(files, "0", 0.5)
    exported = export_untrained(workshop, files, "0", 1)
    assert exported.compressed is not None
    assert (exported.state, [epoch.epoch for epoch in exported.compressed.epochs]) == ("proposed", [-1])
    assert "top1" not in exported.metrics
    assert export_untrained(workshop, files, "0", 1) == exported

    (timed,) = measure(files, study.device, ["0"], seed=0)
    assert (timed.state, timed.metrics["latency_ratio"]) == ("proposed", 0.5)
    assert measure(files, study.device, ["0"], seed=0) == []

    assert admit(files, study, ["0"]) == ["0"]
    judged = files.read_record("0")
    assert judged.gate == Gate(optimistic_top1=100.0, can_win=True)  # as far as 24 images tell
    rival(files, "1", latency_ratio=0.1, top1=100.0)
    assert admit(files, study, ["0"]) == ["0"]
    assert files.read_record("0") == judged  # it stands

    trained = compress(workshop, files, "0", 1)
    assert trained.compressed is not None
    assert (trained.state, len(trained.compressed.epochs)) == ("compressed", 1 + EPOCHS)
    assert trained.compressed.epochs[0] == exported.compressed.epochs[0]  # taken up, not evaluated again
    assert "evaluate" not in trained.compressed.seconds or trained.compressed.seconds["evaluate"] < 1
    (done,) = measure(files, study.device, ["0"], seed=0)
    assert done.latency is not None
    assert done.latency.is_reused
    assert device.num_measured == 1
    assert done.state in {"completed", "suspect"}
    assert done.metrics["top1"] == trained.compressed.validation.top1
    assert done.seconds["compress"] > trained.seconds["compress"] - exported.seconds["compress"]


def test_training_goes_the_same_way_whether_latency_was_wanted_first_or_not(study: Study, files: StudyFiles) -> None:
    workshop = Workshop(study=study, store=files.store)
    unpruned = files.read_record(UNPRUNED).compressed
    assert unpruned is not None
    parameters = {"pruner_0.desired_sparsity": 0.5}
    at_once = workshop.complete(pruned := workshop.prune(unpruned.checkpoint, parameters), lambda: workshop._retrain(
        pruned, lambda epochs: True))  # fmt: skip
    files.store.delete(pruned.identity)
    workshop.untrained(workshop.prune(unpruned.checkpoint, parameters))
    afterwards, is_reused = workshop.make_candidate(unpruned.checkpoint, parameters)
    assert not is_reused
    assert afterwards.checkpoint == at_once.checkpoint


def test_a_trial_that_cannot_win_is_not_trained(study: Study, files: StudyFiles, device: Device) -> None:
    study = study.model_copy(
        update={"search": study.search.model_copy(update={"objectives": {"latency_ratio": "minimize"}})}
    )
    files.write_study_yaml(study.to_yaml())
    rival(files, "1", latency_ratio=0.3, top1=100.0)
    workshop = Workshop(study=study, store=files.store)
    propose(files, "0", 0.5)
    export_untrained(workshop, files, "0", 1)
    measure(files, study.device, ["0"], seed=0)
    assert admit(files, study, ["0"]) == []
    gated = files.read_record("0")
    assert (gated.state, gated.is_finished, gated.finished_at is not None) == ("gated", True, True)
    assert gated.gate is not None
    assert not gated.gate.can_win
    assert compress(workshop, files, "0", 1) == gated
    assert measure(files, study.device, ["0"], seed=0) == []

    replicate = propose(files, "2", 0.5, replicate_of="1")
    export_untrained(workshop, files, "2", 1)
    measure(files, study.device, ["2"], seed=0)
    assert admit(files, study, ["2"]) == ["2"]
    assert files.read_record("2").gate is replicate.gate is None


def test_what_was_trained_before_is_taken_as_it_is(study: Study, files: StudyFiles, device: Device) -> None:
    workshop = Workshop(study=study, store=files.store)
    for label in ("0", "1"):
        propose(files, label, 0.5)
    known = compress(workshop, files, "0", 1)
    again = export_untrained(workshop, files, "1", 1)
    assert (again.state, again.is_reused, again.compressed) == ("compressed", True, known.compressed)
    measure(files, study.device, ["1"], seed=0)
    assert admit(files, study, ["1"]) == []
    assert files.read_record("1").is_finished


def test_an_untrained_network_that_cannot_be_measured_leaves_no_figures(
    study: Study, files: StudyFiles, device: Device
) -> None:
    device.ratio = None
    propose(files, "0", 0.5)
    export_untrained(Workshop(study=study, store=files.store), files, "0", 1)
    (failed,) = measure(files, study.device, ["0"], seed=0)
    assert (failed.state, failed.metrics) == ("failed", {})
    assert admit(files, study, ["0"]) == []


# --- whether there is a gate


def premise(*ratios: float, p_value: float = 0.01) -> Premise:
    latencies = [make_latency(ratio).latency_ratio for ratio in ratios]
    twins = [TrainedTwin(trial=str(i), latency_ratio=ratio, is_noisy=False) for i, ratio in enumerate(latencies)]
    return Premise(
        twins=tuple(twins), tolerance=0.01, mean_ratio=latencies[0], spread=0.0, p_value=p_value, device=make_device()
    )


@pytest.mark.parametrize(
    ("gate", "p_value", "expected"),
    [
        (None, None, False),
        (True, None, True),
        (None, 0.01, True),
        (None, 0.2, False),
        (True, 0.2, False),
        (False, 0.01, False),
    ],
)
def test_the_premise_sets_or_forbids_the_gate(gate: bool | None, p_value: float | None, expected: bool) -> None:
    found = None if p_value is None else premise(1.0, 1.01, p_value=p_value)
    assert is_gated(make_study(gate=gate), found) is expected


def test_a_gate_that_the_premise_forbids_is_told(files: StudyFiles) -> None:
    study, display = make_study(gate=True), RecordingDisplay()
    files.write_premise(premise(1.0, p_value=0.2))
    with show_on(display):
        open_study(files, study)
    assert any("no gate: 'secateur premise' did not find" in str(said) for said in display.said)


def test_without_training_there_is_no_gate() -> None:
    assert not is_gated(make_study(training={"epochs": 0}), None)


def test_epochs_that_are_searched_count() -> None:
    parameters = {"pruner_0.desired_sparsity": {"min": 0.0, "max": 0.9}, "training.epochs": {"min": 1, "max": 3}}
    searched = {"training": {"epochs": 0}, "search": {**STUDY["search"], "parameters": parameters}}
    assert is_gated(make_study(**searched), None)
    schedule = copy.deepcopy(SCHEDULE)
    schedule["policies"].insert(3, {"extension": {"instance_name": "thinner"}, "epochs": [1]})
    assert not is_gated(make_study(schedule=schedule, **searched), None)


def test_the_largest_change_seen_is_what_a_gate_allows_for() -> None:
    assert shift_of(premise(1.002, 0.97, 1.01)) == pytest.approx(0.03)
    assert shift_of(None) == 0.05


def test_a_schedule_that_prunes_while_it_trains_has_no_gate() -> None:
    schedule = copy.deepcopy(SCHEDULE)
    schedule["policies"][1]["epochs"] = [1]
    schedule["policies"].insert(3, {"extension": {"instance_name": "thinner"}, "epochs": [1]})
    with pytest.raises(StudyError, match=r"gate: the shape of a candidate is not known before .* prunes then\. Leave"):
        check_study(make_study(schedule=schedule))
    assert check_study(make_study(schedule=schedule, gate=None)).gate is None
    assert not is_gated(make_study(schedule=schedule, gate=None), premise(1.0))


def test_what_a_premise_says_is_kept(files: StudyFiles) -> None:
    assert files.read_premise() is None
    files.write_premise(found := premise(1.0, 0.99))
    assert files.read_premise() == found


# --- stopping


def hopeless(files: StudyFiles) -> None:
    """Eight trials that reach 100 % with whatever latency, their curves flat."""
    for i in range(10, 18):
        network = make_compressed(100.0, num_params=i, num_epochs=EPOCHS)
        epochs = tuple(epoch.model_copy(update={"top1": 99.0}) for epoch in network.epochs)
        rival(files, str(i), latency_ratio=0.1)
        record = files.read_record(str(i))
        network = network.model_copy(update={"epochs": epochs})
        files.write_record(record.model_copy(update={"compressed": network}))


def test_training_that_cannot_win_any_more_is_stopped(study: Study, files: StudyFiles, device: Device) -> None:
    hopeless(files)
    slow = study.model_copy(update={"training": study.training.model_copy(update={"lr": 1e-4})})
    workshop = Workshop(study=slow, store=files.store)
    propose(files, "0", 0.5, latency=make_latency(0.9))
    record = compress(workshop, files, "0", 1)
    assert record.compressed is not None
    assert record.compressed.is_stopped
    assert [epoch.epoch for epoch in record.compressed.epochs] == [-1, 0]
    assert "top1" not in record.metrics
    (stopped,) = measure(files, study.device, ["0"], seed=0)
    assert (stopped.state, stopped.is_finished) == ("stopped", True)

    pruned = workshop.prune(files.read_record(UNPRUNED).compressed.checkpoint, record.parameters)  # type: ignore[union-attr]
    assert workshop.earlier(pruned.identity) is None  # nobody takes it for the whole
    assert checkpoint_path(pruned.identity).exists()  # it can be continued
    unhurried = Workshop(study=slow.model_copy(update={"stop_early": False}), store=files.store)
    propose(files, "1", 0.5)
    continued = compress(unhurried, files, "1", 1)
    assert continued.compressed is not None
    assert continued.compressed.epochs[1:2] == record.compressed.epochs[1:]
    assert len(continued.compressed.epochs) == 1 + EPOCHS
    assert not checkpoint_path(pruned.identity).exists()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"gate": Gate(optimistic_top1=90.0, can_win=False, is_audit=True)}, id="audit"),
        pytest.param({"replicate_of": "10"}, id="replicate"),
    ],
)
def test_who_is_there_to_be_known_is_not_stopped(study: Study, files: StudyFiles, changes: dict[str, Any]) -> None:
    hopeless(files)
    slow = study.model_copy(update={"training": study.training.model_copy(update={"lr": 1e-4})})
    propose(files, "0", 0.5, latency=make_latency(0.9), **changes)
    record = compress(Workshop(study=slow, store=files.store), files, "0", 1)
    assert record.compressed is not None
    assert len(record.compressed.epochs) == 1 + EPOCHS
