"""What ran beside a measurement: from a made-up /proc, and from the real one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from secateur.benchmark import measure
from secateur.benchmark.runner.beside import Bystanders
from secateur.config import DeviceProfile
from secateur.results import LatencyReport

WORK = "from secateur.turns import working\nwith working():\n print('on it', flush=True)\n while True: pass"


def write_proc(proc: Path, host: tuple[int, int, int], processes: Mapping[int, tuple[str, int]]) -> None:
    """Write ticks (user, idle, stolen) of the host, and name and ticks of each process."""
    user, idle, stolen = host
    (proc / "stat").write_text(f"cpu  {user} 0 0 {idle} 0 0 0 {stolen} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
    for pid, (name, ticks) in processes.items():
        (proc / str(pid)).mkdir(exist_ok=True)
        (proc / str(pid) / "stat").write_text(f"{pid} ({name}) R {' 0' * 10} {ticks} 0 0 0 20 0")


def test_shares_are_told_apart(tmp_path: Path) -> None:
    lock = tmp_path / "the-host.lock"
    lock.touch()
    locks = f"1: FLOCK  ADVISORY  READ 71 fe:00:{lock.stat().st_ino} 0 EOF\n2: POSIX ADVISORY WRITE 72 fe:00:9 0 EOF\n"
    (tmp_path / "locks").write_text(f"{locks}1: -> FLOCK  ADVISORY  WRITE 73 fe:00:{lock.stat().st_ino} 0 EOF\n")
    own = os.getpid()
    write_proc(tmp_path, (1000, 1000, 0), {own: ("runner", 50), 71: ("python", 400), 72: ("a (b) c", 10), 74: ("x", 9)})
    bystanders = Bystanders(str(lock), tmp_path)
    write_proc(tmp_path, (1700, 1280, 20), {own: ("runner", 250), 71: ("python", 700), 72: ("a (b) c", 160)})
    assert bystanders.told() == {
        "ours_share": 0.3,
        "others_share": 0.2,  # 5 points of which no process accounts for
        "num_others": 1,
        "stolen_share": 0.02,
        "busiest": "python (71): 30%",
    }


def test_a_process_that_began_meanwhile_counts(tmp_path: Path) -> None:
    write_proc(tmp_path, (0, 0, 0), {})
    bystanders = Bystanders(None, tmp_path)
    write_proc(tmp_path, (60, 40, 0), {75: ("stress", 60)})
    assert bystanders.told()["busiest"] == "stress (75): 60%"


@pytest.mark.parametrize("text", ["", "cpu  0 0 0 0 0 0 0 0 0 0\n", "no counters"], ids=["empty", "still", "text"])
def test_where_the_host_does_not_tell_nothing_is_made_up(tmp_path: Path, text: str) -> None:
    (tmp_path / "stat").write_text(text)
    assert Bystanders(None, tmp_path).told() == {}
    assert Bystanders(None, tmp_path / "absent").told() == {}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_a_measurement_says_what_ran_beside(profile: DeviceProfile, small_net: Path) -> None:
    longer = profile.model_copy(update={"max_duration_s": 0.6, "target_half_width": 1e-9})
    with subprocess.Popen([sys.executable, "-c", WORK], stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout
            worker.stdout.readline()
            time.sleep(0.1)
            (report,) = measure([small_net], small_net, longer)
        finally:
            worker.kill()
    assert isinstance(report, LatencyReport)
    beside = report.conditions["beside"]
    assert beside["ours_share"] > 0.2 / (os.cpu_count() or 1)
    assert 0 <= beside["others_share"] <= 1
