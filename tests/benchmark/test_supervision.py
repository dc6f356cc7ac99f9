"""What happens when the runner, or who started it, comes to grief."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from secateur import progress
from secateur.benchmark import client, measure
from secateur.config import DeviceProfile
from secateur.errors import DeviceBusyError, MeasurementError
from tests.factories import make_device

FakeRunner = Callable[[str], None]

MEASURE_FOR_LONG = """
import sys
from pathlib import Path
from secateur.benchmark import measure
from secateur.config import DeviceProfile
net = Path(sys.argv[1])
measure([net], net, DeviceProfile(num_threads=1, max_duration_s=60, target_half_width=1e-9))
"""


@pytest.fixture
def fake_runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    """Put a program in the runner's place; it notes its process in a file `pid`."""

    def install(body: str) -> None:
        program = tmp_path / "fake_runner.py"
        note = f"import os, sys, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        program.write_text(note + textwrap.dedent(body))
        monkeypatch.setattr(client, "RUNNER", program)

    return install


class RecordingDisplay:
    """Keeps what progress says."""

    def __init__(self) -> None:
        self.said: list[object] = []

    @contextmanager
    def bar(self, description: str, total: float | None) -> Iterator[progress.Bar]:
        self.said.append((description, total))
        yield self

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        self.said.append((amount, note))

    def message(self, text: str) -> None:
        self.said.append(text)


def wait_until(is_true: Callable[[], bool], what: str, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, f"{what}: not within {timeout_s} s"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@contextmanager
def measuring_elsewhere(net: Path, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Measure in another process for long; yields that process, and its runner's number."""
    lock = tmp_path / f"secateur-{os.getuid()}" / "CPU.lock"
    with subprocess.Popen([sys.executable, "-c", MEASURE_FOR_LONG, str(net)], stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: lock.is_file() and lock.read_text().isdigit(), "the lock is taken")
            yield process, int(lock.read_text())
        finally:
            process.kill()


def test_a_silent_runner_is_killed_with_all_that_it_started(
    fake_runner: FakeRunner, profile: DeviceProfile, small_net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("secateur.benchmark.process.GRACE_S", 0.0)
    fake_runner("""
        import subprocess
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open(os.environ["TMPDIR"] + "/child", "w").write(str(child.pid))
        print("the device does not answer", file=sys.stderr, flush=True)
        print('{"event": "progress", "phase": "compiling x.onnx"}', flush=True)
        time.sleep(600)
    """)
    impatient = profile.model_copy(update={"timeout_s": 1.0})
    expected = (
        r"(?s)nothing for 1 s and was killed while compiling x\.onnx\. .*timeout_s \(1\).*the device does not answer"
    )
    with pytest.raises(MeasurementError, match=expected):
        raise measure([small_net], small_net, impatient)[0]
    for name in ("pid", "child"):
        pid = int((tmp_path / name).read_text())
        wait_until(lambda pid=pid: not is_alive(pid), f"{name} is gone")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("sys.exit('out of memory')", r"(?s)ended with exit code 1 while starting\. Its last words:\n  out of memory"),
        ("os.kill(os.getpid(), 11)", r"was ended by SIGSEGV while starting\. It left no last words\."),
        ("os.close(1); time.sleep(600)", r"closed its output, and was killed, while starting"),
        ("print('hello', flush=True); time.sleep(600)", r"said b'hello', which is no event while starting"),
        ("print('[]', flush=True); time.sleep(600)", r"said b'\[\]', which is no event"),
        (
            """print('{"event": "error", "kind": "runtime", "message": "it melted"}', flush=True)""",
            "^it melted$",
        ),
    ],
    ids=["exit", "signal", "closed", "text", "no object", "error"],
)
def test_a_failing_runner_is_told_with_its_last_words(
    fake_runner: FakeRunner, profile: DeviceProfile, small_net: Path, tmp_path: Path, body: str, expected: str
) -> None:
    fake_runner(body)
    with pytest.raises(MeasurementError, match=expected):
        measure([small_net], small_net, profile)
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_an_exception_in_the_caller_kills_the_runner(
    fake_runner: FakeRunner, profile: DeviceProfile, small_net: Path, tmp_path: Path
) -> None:
    class Interrupting(RecordingDisplay):
        def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
            raise KeyboardInterrupt

    fake_runner("""
        print('{"event": "progress", "phase": "measuring", "done": 0.5, "half_width": null}', flush=True)
        time.sleep(600)
    """)
    with pytest.raises(KeyboardInterrupt), progress.show_on(Interrupting()):
        measure([small_net], small_net, profile)
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_progress_is_shown(profile: DeviceProfile, small_net: Path) -> None:
    display = RecordingDisplay()
    with progress.show_on(display):
        measure([small_net, small_net], small_net, profile.model_copy(update={"target_half_width": 1e-9}))
    assert display.said[0] == ("measuring 2 models on CPU", 2)
    assert 0 < sum(step[0] for step in display.said[1:] if isinstance(step, tuple)) <= 2
    assert any("±" in str(step) for step in display.said)


def test_a_precision_that_the_device_does_not_have_is_told(profile: DeviceProfile) -> None:
    display = RecordingDisplay()
    with progress.show_on(display):
        client._check_precision(make_device(precision="f32"), profile.model_copy(update={"precision": "f16"}))
    assert display.said == ["CPU runs in f32, not in f16 as the profile asks."]


def test_two_measurements_never_overlap_on_a_device(
    profile: DeviceProfile, small_net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    display = RecordingDisplay()
    monkeypatch.setattr(client, "LOCK_TIMEOUT_S", 0.3)
    with measuring_elsewhere(small_net, tmp_path) as (_, runner_pid):
        busy = rf"Device 'CPU' is busy: process {runner_pid} measures on it, for 0\.3 s by now .*\. Try again"
        with pytest.raises(DeviceBusyError, match=busy), progress.show_on(display):
            measure([small_net], small_net, profile)
    assert f"Measuring on CPU has to wait: process {runner_pid} measures on it." in display.said


def test_a_killed_runner_frees_the_device(profile: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    with measuring_elsewhere(small_net, tmp_path) as (_, runner_pid):
        os.kill(runner_pid, signal.SIGKILL)
        assert measure([small_net], small_net, profile)


def test_a_runner_dies_with_its_parent(profile: DeviceProfile, small_net: Path, tmp_path: Path) -> None:
    with measuring_elsewhere(small_net, tmp_path) as (parent, runner_pid):
        assert is_alive(runner_pid)
        parent.kill()
        wait_until(lambda: not is_alive(runner_pid), "the runner is gone", timeout_s=5.0)
        assert measure([small_net], small_net, profile)
