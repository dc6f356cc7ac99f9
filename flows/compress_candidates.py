"""The `compress` flow: prunes, retrains and exports a batch of candidates. Runs where the GPU is."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any, Literal

from prefect import flow

from flows.side_by_side import wait_for_all
from secateur import progress
from secateur.candidate import Workshop
from secateur.results import UNPRUNED
from secateur.steps.gate import OperationGate
from secateur.steps.source import stored_study
from secateur.store import StudyFiles, open_store
from tasks.candidates import compress_trial, export_trial, test_finalist
from tasks.control import wanted


@flow(name="compress", flow_run_name="{action} {labels} of {study}", persist_result=False)
async def compress(
    study: str, labels: list[str], store: str, action: Literal["export", "compress", "test"] = "compress"
) -> None:
    """Export proposed trials untrained, compress them, or evaluate finalists on test data.

    Args:
        study: Name of a study in the store.
        labels: Trials by index, or names of baselines.
        store: Path or s3:// URL.
        action: What to do with them.
    """
    files = StudyFiles(open_store(store), study)
    read = stored_study(files)
    workshop = Workshop(study=read, store=files.store, gate=OperationGate(read.device))
    step = {"export": export_trial, "compress": compress_trial, "test": test_finalist}[action]
    run = as_cores_allow(workshop, files, step, action, len(labels))
    if UNPRUNED in labels:  # the others begin with it
        await run(UNPRUNED)
    await wait_for_all(run(label) for label in labels if label != UNPRUNED)


def as_cores_allow(
    workshop: Workshop, files: StudyFiles, step: Callable[..., Awaitable[Any]], action: str, num_candidates: int
) -> Callable[[str], Awaitable[None]]:
    """Return what takes a step with the candidate of a label, as soon as there are cores for it."""
    takes_turns = workshop.device == "cuda" or workshop.draws
    num_at_once, num_threads = share_cores(num_candidates, os.cpu_count() or 1, takes_turns=takes_turns)
    slots = asyncio.Semaphore(num_at_once)

    async def run(label: str) -> None:
        async with slots:
            if await wanted(files) == "run":  # else it stays as it is
                with progress.track(f"{action} {label}"):
                    await step(workshop, files, label, num_threads)

    return run


def share_cores(num_candidates: int, num_cores: int, *, takes_turns: bool) -> tuple[int, int]:
    """Return how many candidates to train at once, and with how many CPU threads each.

    On a CPU, small networks one thread each beat one network with all threads: its threads would wait for one another
    at every layer, which on a machine that has anything else to do takes ten times as long. A GPU takes one at a time;
    so do networks that draw at random in training, since what one draws would depend on the others.
    """
    num_at_once = 1 if takes_turns else min(num_candidates, num_cores)
    return num_at_once, max(1, num_cores // num_at_once)
