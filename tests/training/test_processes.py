"""Several processes train one network together."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from secateur.errors import InputError
from secateur.training import processes
from tests.runs import ROOT
from tests.training import pair
from tests.training.networks import small_network
from tests.training.test_checkpoint import assert_same
from tests.training.test_offline import IDENTITY, jobs

__all__ = ["jobs"]

ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What pairs of processes have left of their trainings."""
    folder = tmp_path_factory.mktemp("pairs")
    subprocess.run([sys.executable, "-m", "tests.training.pair", str(folder)], cwd=ROOT, env=ENVIRON, check=True)
    return folder


def left(pairs: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    first, second = (load_file(pairs / name / f"{rank}.safetensors") for rank in range(2))
    return first, second


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "whole", "killed"])
def test_both_end_with_the_same_network(pairs: Path, name: str) -> None:
    assert_same(*left(pairs, name))


@pytest.mark.slow
def test_two_processes_train_as_one(pairs: Path) -> None:
    together, _ = left(pairs, "plain")
    torch.testing.assert_close(together, pair.run(pair.plain_network(), pair.PLAIN), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_each_part_is_normalised_for_itself_as_with_accumulation(pairs: Path) -> None:
    together, _ = left(pairs, "whole")
    alone = pair.run(small_network(), replace(pair.WHOLE, accumulation=2))
    learned = [name for name, _ in small_network().named_parameters()]
    torch.testing.assert_close(
        {name: together[name] for name in learned}, {name: alone[name] for name in learned}, rtol=1e-4, atol=1e-6
    )
    torch.testing.assert_close(together["curve"][:, 0], alone["curve"][:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_a_pair_of_which_one_was_killed_goes_on_from_its_last_epoch(pairs: Path) -> None:
    assert_same(left(pairs, "killed")[0], left(pairs, "whole")[0])


@given(num_rows=st.integers(1, 40), num_processes=st.integers(1, 9))
def test_every_row_belongs_to_one_process(num_rows: int, num_processes: int) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dist, "is_initialized", lambda: True)
        patched.setattr(dist, "get_world_size", lambda: num_processes)
        parts = []
        for rank in range(num_processes):
            patched.setattr(dist, "get_rank", lambda rank=rank: rank)
            parts.append(processes.own_part(num_rows))
    rows = [row for part in parts if part.share for row in range(num_rows)[part.rows]]
    assert rows == list(range(num_rows))
    assert sum(part.share for part in parts) == pytest.approx(1)
    assert all(len(range(num_rows)[part.rows]) > 0 for part in parts)


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(InputError, match=r"process 3 on a host of 2 GPUs.*--nproc-per-node 2"), processes.together():
        pass


@pytest.mark.slow
def test_torchrun_trains_a_folder_of_jobs(jobs: Path, tmp_path: Path) -> None:
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "secateur.training"]
    done = subprocess.run(
        [sys.executable, *command, str(jobs), str(tmp_path / "out")],
        cwd=ROOT,
        env=ENVIRON,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1 of 1 candidates are trained\n"
    assert (tmp_path / "out" / IDENTITY / "result.json").exists()
