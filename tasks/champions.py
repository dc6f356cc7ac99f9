"""Tasks about champions, of the GPU host and the control host."""

from __future__ import annotations

import asyncio

from prefect import task
from prefect.logging import get_run_logger

from secateur.candidate import Workshop
from secateur.championship import Alias, Contest
from secateur.config import ChampionRule
from secateur.results import TestScores, TrialRecord
from secateur.steps import contest as contests
from secateur.steps.retrain import publish, retrain
from secateur.store import StudyFiles
from tasks.settings import RETRIED


@task(task_run_name="retrain {label}", **RETRIED)
async def retrain_contender(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TrialRecord:
    """Retrain one contender with its fresh seed, and compare what was stored of it."""
    record = await asyncio.to_thread(retrain, workshop, files, label, num_threads)
    if record.failure is not None:
        get_run_logger().warning("contender %s failed: %s", label, record.failure.message)
    elif record.compressed is not None:
        get_run_logger().info("contender %s: top1 %.2f", label, record.compressed.validation.top1)
    return record


@task(task_run_name="publish {label}", **RETRIED)
async def publish_network(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TestScores:
    """Evaluate one network on what is left of the test part."""
    scores = await asyncio.to_thread(publish, workshop, files, label, num_threads)
    get_run_logger().info("%s: top1 %.2f on test data", label, scores.top1)
    return scores


@task(task_run_name="open a contest of {files.name}", **RETRIED)
async def open_contest(files: StudyFiles, rule: ChampionRule) -> Contest:
    """Find out who competes, and write that down."""
    contest = await asyncio.to_thread(contests.open_contest, files, rule)
    get_run_logger().info("contest %d: trials %s", contest.number, ", ".join(contest.trials))
    return contest


@task(task_run_name="decide {files.name}", **RETRIED)
async def decide(files: StudyFiles, contest: Contest) -> Contest:
    """Give each trial its verdict."""
    contest = await asyncio.to_thread(contests.decide, files, contest)
    for verdict in contest.verdicts:
        get_run_logger().info("trial %s: %s", verdict.trial, "; ".join(verdict.problems) or "passed")
    return contest


@task(task_run_name="promote the champion of {files.name}", **RETRIED)
async def promote_winner(files: StudyFiles, contest: Contest) -> Alias:
    """Make a contest's winner the champion."""
    return await asyncio.to_thread(contests.promote, files, contest)
