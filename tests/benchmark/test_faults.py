"""Faults in the middle of a real measurement: one model fails, the others are measured, and nothing stays."""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from secateur.benchmark import client, measure
from secateur.benchmark.client import RUNNER
from secateur.config import DeviceProfile
from secateur.errors import MeasurementError, SecateurError
from secateur.results import LatencyReport
from tests.benchmark.networks import conv_net

WHILE_COMPILING = """
import ctypes, os, resource, sys, time
_sound = _compiled
def _compiled(opened, path, index, request, output):
    if "bad" in path:
        output.emit("progress", phase=f"compiling {{path}}", network=index)
        {fault}
    return _sound(opened, path, index, request, output)
"""
WHILE_MEASURING = """
import os, time
_sound = Network.run_block
def _run_block(self, num_inferences):
    if "bad" in str(self.path) and len(self.rounds_s) == 2:
        {fault}
    return _sound(self, num_inferences)
Network.run_block = _run_block
"""
HOLDING = """
import os, time
def measure(request, output):
    begin = time.monotonic()
    try:
        os.mkdir(__file__ + ".first")
    except FileExistsError:
        time.sleep(0.05)
    else:
        time.sleep(60)  # the first is killed
    return {"begin": begin, "end": time.monotonic()}
"""


@pytest.fixture
def inject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put a copy of the runner in its place that goes wrong: `code` comes after its measurement module."""

    def install(code: str) -> None:
        program = tmp_path / "runner"
        shutil.copytree(RUNNER, program)
        with (program / "measurement.py").open("a") as file:
            file.write(code)
        monkeypatch.setattr(client, "RUNNER", program)

    return install


@pytest.fixture
def bad_net(tmp_path: Path) -> Path:
    return conv_net(tmp_path / "bad.onnx", activation="Sin")


def assert_nothing_is_left(tmp_path: Path) -> None:
    assert [
        program for program in map(_program, psutil.Process().children(recursive=True)) if str(tmp_path) in program
    ] == []
    with (tmp_path / f"secateur-{os.getuid()}" / "CPU.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _program(child: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):  # it ended meanwhile, or has and nobody took note
        return " ".join(child.cmdline())
    return ""


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("code", "fault", "expected"),
    [
        (WHILE_COMPILING, "time.sleep(600)", r"said nothing for 2 s and was killed while compiling .*bad\.onnx"),
        pytest.param(
            WHILE_COMPILING,
            "ctypes.PyDLL(None).sleep(600)",  # holds the interpreter, too
            r"said nothing for 2 s and was killed while compiling",
            marks=SLOW,
        ),
        (
            WHILE_COMPILING,
            "os.kill(os.getpid(), 9)",
            r"was ended by SIGKILL while compiling .*bad\.onnx.*memory runs out",
        ),
        pytest.param(
            WHILE_COMPILING,
            "os.kill(os.getpid(), 11)",
            r"was ended by SIGSEGV while compiling .*bad\.onnx",
            marks=SLOW,
        ),
        (WHILE_COMPILING, "output._file.write('hello\\n'); output._file.flush()", r"said b'hello', which is no event"),
        pytest.param(
            WHILE_COMPILING,
            "while True: os.write(2, b'flood ' * 10000)",
            r"said nothing for 2 s and was killed while compiling .{0,500}Its last words:.{0,2100}$",
            marks=SLOW,
        ),
        pytest.param(WHILE_MEASURING, "os.kill(os.getpid(), 9)", r"was ended by SIGKILL while", marks=SLOW),
        pytest.param(WHILE_MEASURING, "raise RuntimeError('lost')", r"ended with exit code 1 .*lost", marks=SLOW),
    ],
    ids=["hang", "native hang", "killed", "crash", "garbage", "flood", "killed later", "device lost"],
)
def test_a_fault_is_told_of_one_model_and_the_others_are_measured(
    inject: Callable[[str], None],
    profile: DeviceProfile,
    small_net: Path,
    bad_net: Path,
    tmp_path: Path,
    code: str,
    fault: str,
    expected: str,
) -> None:
    inject(code.format(fault=fault))
    before, error, after = measure(
        [small_net, bad_net, small_net],
        small_net,
        profile.model_copy(update={"timeout_s": 2.0, "max_duration_s": 0.05}),
    )
    assert isinstance(before, LatencyReport)
    assert isinstance(after, LatencyReport)
    with pytest.raises(MeasurementError, match=rf"(?s)bad\.onnx: The runner {expected}"):
        raise error
    assert_nothing_is_left(tmp_path)


TAKES_ALL_MEMORY = """
_sound = Network.warm_up
def _warm_up(self, num_warmups):
    if "bad" in str(self.path):
        np.zeros(1 << 46)
    _sound(self, num_warmups)
Network.warm_up = _warm_up
"""
SUPPORTS_NO_SINE = """
from secateur.benchmark.runner.openvino_current import Device as Current, RunnerError
_sound = Current.compile
def _unsupported(self, model):
    return [o.get_friendly_name() for o in model.get_ordered_ops() if o.get_type_name() == "Sin"]
def _compile(self, model, path, **options):
    if self.unsupported(model):
        raise RunnerError("runtime", "no primitive")
    return _sound(self, model, path, **options)
Current.unsupported, Current.compile = _unsupported, _compile
"""
VANISHES_ONCE = """
from secateur.benchmark.runner.openvino_current import Device as Current
_sound = Current.compile
def _compile(self, model, path, **options):
    self.name = "GONE" if "bad" in path else "CPU"
    try:
        return _sound(self, model, path, **options)
    finally:
        self.name = "CPU"
Current.compile = _compile
"""


@SLOW
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (TAKES_ALL_MEMORY, r"bad\.onnx: device 'CPU' failed: Unable to allocate 512\. TiB"),
        (SUPPORTS_NO_SINE, r"bad\.onnx: device 'CPU' does not support r0, r1, r2\."),
        (VANISHES_ONCE, r"(?s)bad\.onnx: device 'GONE' cannot run this model: .*GONE.* not registered"),
    ],
    ids=["out of memory", "unsupported", "vanishes"],
)
def test_what_the_runner_survives_it_tells_itself(
    inject: Callable[[str], None],
    profile: DeviceProfile,
    small_net: Path,
    bad_net: Path,
    tmp_path: Path,
    code: str,
    expected: str,
) -> None:
    inject(code)
    before, error, after = measure([small_net, bad_net, small_net], small_net, profile)
    assert isinstance(before, LatencyReport)
    assert isinstance(after, LatencyReport)
    with pytest.raises(SecateurError, match=expected):
        raise error
    assert_nothing_is_left(tmp_path)


def test_a_fault_of_the_reference_ends_the_measurement(
    inject: Callable[[str], None], profile: DeviceProfile, small_net: Path, bad_net: Path, tmp_path: Path
) -> None:
    inject(WHILE_COMPILING.format(fault="os.kill(os.getpid(), 9)"))
    with pytest.raises(MeasurementError, match=r"was ended by SIGKILL while compiling .*bad\.onnx"):
        measure([small_net, small_net], bad_net, profile)
    assert_nothing_is_left(tmp_path)


def test_twenty_processes_never_hold_one_device_at_once(
    inject: Callable[[str], None], profile: DeviceProfile, tmp_path: Path
) -> None:
    inject(HOLDING)
    killed_at: list[float] = []

    def kill_a_holder() -> None:
        lock = tmp_path / f"secateur-{os.getuid()}" / "CPU.lock"
        while not any(tmp_path.rglob("*.first")):
            time.sleep(0.005)
        os.kill(int(lock.read_text()), signal.SIGKILL)
        killed_at.append(time.monotonic())

    def hold(_: int) -> tuple[float, float] | None:
        try:
            answer = client._ask({"command": "measure"}, profile)
        except MeasurementError as error:
            assert "SIGKILL" in str(error)
            return None
        return answer["begin"], answer["end"]

    killer = threading.Thread(target=kill_a_holder)
    killer.start()
    with ThreadPoolExecutor(20) as pool:
        held = list(pool.map(hold, range(20)))
    killer.join()
    intervals = sorted(interval for interval in held if interval is not None)
    assert len(intervals) == 19
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(intervals))
    assert min(begin for begin, _ in intervals if begin > killed_at[0]) - killed_at[0] < 1.0
    assert_nothing_is_left(tmp_path)
