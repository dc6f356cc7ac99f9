"""Work of ours gives way to an exclusive measurement, however that ends."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from secateur import progress
from secateur.benchmark import client, measure
from secateur.config import DeviceProfile
from secateur.errors import DeviceBusyError, MeasurementError
from secateur.turns import device_lock, host_lock, queue_lock, working
from tests.benchmark.conftest import own_locks, profile, small_net  # noqa: F401
from tests.benchmark.test_supervision import RecordingDisplay, wait_until

TRAIN = """
import sys, time
import torch
from secateur.training import NoCallbacks, TrainingSettings, train
from secateur.turns import working
from tests.flows.tiny import images, network

class Noting(NoCallbacks):
    def on_minibatch_begin(self, epoch, minibatch, num_minibatches):
        print(time.monotonic(), flush=True)
        time.sleep(0.002)

torch.set_num_threads(1)
splits = images()
settings = TrainingSettings(epochs=100000, lr=1e-4, batch_size=8)
with working():
    train(network(3), splits.train, splits.validation, settings, Noting(), normalize=splits.normalize)
"""

HAVE_THE_HOST = """
import sys, time
from secateur.benchmark.runner.locks import take_locks
from secateur.turns import device_lock, host_lock, queue_lock

class Silent:
    def emit(self, event, **fields):
        pass

files = {"device": str(device_lock(sys.argv[1])), "queue": str(queue_lock()), "host": str(host_lock())}
take_locks({**files, "is_exclusive": True, "timeout_s": 30}, Silent())
print(time.monotonic(), flush=True)
time.sleep(float(sys.argv[2]))
print(time.monotonic(), flush=True)
"""


@contextmanager
def process(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


class Clock(RecordingDisplay):
    """Notes when a measurement says how far it is."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        self.times.append(time.monotonic())


@pytest.fixture
def exclusive(profile: DeviceProfile) -> DeviceProfile:  # noqa: F811
    return profile.model_copy(update={"exclusive": True, "max_duration_s": 1.0, "target_half_width": 1e-9})


@pytest.mark.slow
def test_no_minibatch_begins_during_an_exclusive_measurement(exclusive: DeviceProfile, small_net: Path) -> None:  # noqa: F811
    clock = Clock()
    with process(TRAIN) as training:
        assert training.stdout
        before = [float(training.stdout.readline()) for _ in range(10)]
        with progress.show_on(clock):
            measure([small_net], small_net, exclusive)
        begun: list[float] = []
        while not begun or begun[-1] <= clock.times[-1]:  # until it goes on
            begun.append(float(training.stdout.readline()))
    begin, end = clock.times[0], clock.times[-1]
    assert end - begin > 0.5
    assert before[0] < begin
    assert [moment for moment in begun if begin <= moment <= end] == []


def test_other_measurements_stop_nobody(profile: DeviceProfile, small_net: Path) -> None:  # noqa: F811
    with working():
        assert measure([small_net], small_net, profile)


def test_a_measurement_says_whom_it_waits_for(
    exclusive: DeviceProfile,
    small_net: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client, "LOCK_TIMEOUT_S", 0.3)
    display = RecordingDisplay()
    busy = r"Device 'CPU' is busy: other work on this host has yet to pause, for 0\.3 s by now .*the-host\.lock\)"
    with host_lock().open("a") as worker:
        fcntl.flock(worker, fcntl.LOCK_SH)
        with pytest.raises(DeviceBusyError, match=busy), progress.show_on(display):
            measure([small_net], small_net, exclusive)
    assert "Measuring on CPU has to wait: other work on this host has yet to pause." in display.said
    with process(HAVE_THE_HOST, "another", "60") as holder:
        assert holder.stdout
        holder.stdout.readline()
        busy = f"Device 'CPU' is busy: process {holder.pid} has the host for itself"
        with pytest.raises(DeviceBusyError, match=busy):
            measure([small_net], small_net, exclusive.model_copy(update={"exclusive": False}))


def test_work_goes_on_as_soon_as_a_measurer_is_killed() -> None:
    with process(HAVE_THE_HOST, "CPU", "600") as measurer:
        assert measurer.stdout
        measurer.stdout.readline()
        started = threading.Event()

        def work() -> None:
            with working():
                started.set()

        thread = threading.Thread(target=work)
        thread.start()
        assert not started.wait(0.3)
        measurer.send_signal(signal.SIGKILL)
        assert started.wait(1.0)
        thread.join()


def test_two_exclusive_measurements_queue() -> None:
    with process(HAVE_THE_HOST, "CPU", "0.3") as first, process(HAVE_THE_HOST, "GPU", "0.3") as second:
        (_, first_end), (second_begin, _) = sorted(
            [float(x) for x in one.communicate()[0].split()] for one in (first, second)
        )
    assert first_end <= second_begin


def test_one_who_waits_for_the_host_is_not_overtaken() -> None:
    with working(), process(HAVE_THE_HOST, "CPU", "0") as measurer:
        wait_until(lambda: queue_lock().is_file() and queue_lock().read_text() == str(measurer.pid), "it waits")
        late = threading.Thread(target=working()(lambda: None))
        late.start()
        late.join(0.2)
        assert late.is_alive()
        with progress.track("work") as bar:
            bar.advance()
        assert measurer.wait(5.0) == 0
        late.join(5.0)
        assert not late.is_alive()


def test_work_within_work_is_one() -> None:
    with working(), working(), process(HAVE_THE_HOST, "CPU", "0") as measurer:
        while measurer.poll() is None:
            with progress.track("work") as bar:
                bar.advance()
            time.sleep(0.01)
    assert measurer.returncode == 0


def test_locks_lie_in_one_folder_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / f"secateur-{os.getuid()}"
    assert {path.parent for path in (queue_lock(), host_lock(), device_lock("CPU"))} == {folder}
    assert device_lock("HETERO:GPU,CPU") == folder / "HETERO_GPU_CPU.lock"
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "absent" / "too"))
    with pytest.raises(MeasurementError, match=r"folder of the locks cannot be made: .* Point TMPDIR at another one"):
        host_lock()
