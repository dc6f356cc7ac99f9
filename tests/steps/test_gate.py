"""Networks that a device lacks operations for are refused, before they are trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from secateur import benchmark
from secateur.candidate import Workshop
from secateur.config import DeviceProfile
from secateur.config.located import Located
from secateur.errors import MeasurementError, SecateurError, StudyError, UnsupportedError
from secateur.preflight import check_before_work
from secateur.progress import show_on
from secateur.results import UNPRUNED
from secateur.steps.compress import compress
from secateur.steps.gate import OperationGate
from secateur.steps.record import proposed
from secateur.store import StudyFiles
from tests.benchmark.networks import conv_net
from tests.benchmark.test_supervision import RecordingDisplay
from tests.fakes import MemoryStore
from tests.test_candidate import make_study

STICK = DeviceProfile(name="stick", device="MYRIAD")


class Plugin:
    """Answers in the place of a device's plugin, and counts the questions."""

    def __init__(self, *answers: list[str] | SecateurError) -> None:
        self.answers, self.num_asked = list(answers), 0

    def __call__(self, paths: Sequence[Path], profile: DeviceProfile) -> list[list[str]]:
        assert [path.stat().st_size > 0 for path in paths] == [True]
        self.num_asked += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, SecateurError):
            raise answer
        return [answer]


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Plugin:
    plugin = Plugin([])
    monkeypatch.setattr(benchmark, "unsupported_operations", plugin)
    return plugin


def test_operations_are_asked_about_once_whatever_their_sizes(plugin: Plugin, tmp_path: Path) -> None:
    plugin.answers = [["Sin 'sine'"], []]
    gate = OperationGate(STICK)
    first = conv_net(tmp_path / "first.onnx", activation="Sin").read_bytes()
    expected = r"^Device 'MYRIAD' \(profile 'stick'\) does not support Sin 'sine'\. Make the model of other operations"
    for _ in range(2):
        with pytest.raises(UnsupportedError, match=expected):
            gate(first)
    gate(conv_net(tmp_path / "second.onnx").read_bytes())
    gate(conv_net(tmp_path / "heavier.onnx", scale=2.0).read_bytes())
    gate(conv_net(tmp_path / "wider.onnx", width=9).read_bytes())
    assert plugin.num_asked == 2


def test_many_operations_are_not_all_named(plugin: Plugin, small_network: bytes) -> None:
    plugin.answers = [[f"Sin 's{index}'" for index in range(7)]]
    with pytest.raises(UnsupportedError, match=r"Sin 's4' and 2 more\."):
        OperationGate(STICK)(small_network)


@pytest.mark.parametrize("error", [StudyError("no interpreter"), MeasurementError("no OpenVINO")], ids=str)
def test_where_the_runtime_is_not_installed_all_pass_and_it_is_told_once(
    plugin: Plugin, small_network: bytes, tmp_path: Path, error: SecateurError
) -> None:
    plugin.answers = [error]
    gate, display = OperationGate(STICK), RecordingDisplay()
    with show_on(display):
        gate(small_network)
        gate(conv_net(tmp_path / "another.onnx", width=8).read_bytes())
    assert plugin.num_asked == 1
    assert display.said == [f"Whether MYRIAD has all operations is found out when it measures: {error}"]


def test_the_cpu_itself_is_asked(small_network: bytes, tmp_path: Path) -> None:
    gate = OperationGate(DeviceProfile(name="cpu"))
    gate(small_network)
    with pytest.raises(UnsupportedError, match=r"profile 'cpu': the exported network: OpenVINO cannot read this model"):
        gate(conv_net(tmp_path / "odd.onnx", activation="Frobnicate").read_bytes())


@pytest.fixture
def small_network(tmp_path: Path) -> bytes:
    return conv_net(tmp_path / "small.onnx").read_bytes()


def test_a_refused_network_is_not_trained(plugin: Plugin, monkeypatch: pytest.MonkeyPatch) -> None:
    study = make_study(training={"epochs": 2}, stop_early=False)
    files = StudyFiles(MemoryStore(), study.name)

    def made(label: str, **parameters: float) -> tuple[str, str, str] | str:
        values = {f"{name}.desired_sparsity": value for name, value in parameters.items()}
        files.write_record(proposed(study.name, label, method="grid", parameters=dict(values), seed=0))
        workshop = Workshop(study=study, store=files.store, gate=gate)
        record = compress(workshop, files, label, 1)
        return record.state if record.failure is None else (record.state, record.failure.phase, record.failure.type)

    gate = OperationGate(STICK)
    assert made(UNPRUNED) == "compressed"  # asked about twice: the equal tensors of a fresh network are exported as one
    assert plugin.num_asked == 2
    assert made("0", pruner_0=0.5) == "compressed"
    assert plugin.num_asked == 2  # of the same operations
    gate = OperationGate(STICK)
    plugin.answers = [["Gather 'x'"]]
    monkeypatch.setattr("secateur.candidate.train", None)
    assert made("1", pruner_0=0.25) == ("failed", "compress", "UnsupportedError")


def test_what_was_made_for_another_device_has_to_pass_too(plugin: Plugin) -> None:
    store, study = MemoryStore(), make_study()
    Workshop(study=study, store=store).make_unpruned()
    plugin.answers = [["Sin 'sine'"]]
    with pytest.raises(UnsupportedError, match="Sin 'sine'"):
        Workshop(study=study, store=store, gate=OperationGate(STICK)).make_unpruned()


def test_a_study_whose_model_the_device_cannot_run_is_wrong(plugin: Plugin) -> None:
    plugin.answers = [["Sin 'sine'"]]
    study = make_study(dataset={"name": "digits", "input_size": 8})
    document = Located(value={}, source="study.yaml", places={("device",): "study.yaml:5"})
    with pytest.raises(StudyError, match=r"study\.yaml:5: Device 'CPU' \(profile 'cpu'\) does not support Sin 'sine'"):
        check_before_work(study, document, is_device_here=False)
