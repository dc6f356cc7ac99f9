"""The `sweep` flow: runs a whole study, and goes on with one that was begun. Runs on the control host."""

from __future__ import annotations

import os
import time
from typing import Annotated, Any

from prefect import flow
from prefect.settings import PREFECT_UI_URL
from prefect.states import Cancelled
from pydantic import Field

from flows.child_dispatch import Dispatch, run_child
from flows.compress_candidates import compress
from flows.measure_artifacts import measure
from flows.prepare_baseline import make_baselines
from flows.side_by_side import wait_for_all
from secateur import progress
from secateur.config import Study
from secateur.errors import StudyCancelledError
from secateur.leaderboard import leaderboard, untested
from secateur.parameters import most_epochs
from secateur.results import StudyResults
from secateur.steps.admission import is_gated
from secateur.steps.source import find_study
from secateur.store import StudyFiles, StudyLease
from tasks.control import hold, obey, tell
from tasks.publishing import publish, start_progress, write_report
from tasks.settings import whole
from tasks.studies import admit, observe, open_study, propose, read_results


@flow(name="sweep", flow_run_name="sweep {study}", persist_result=False)
async def sweep(
    study: str,
    trials: Annotated[int | None, Field(ge=1)] = None,
    additional_trials: Annotated[int, Field(ge=0)] = 0,
    fresh: bool = False,
    overrides: list[str] = [],  # noqa: B006 (nobody changes it)
    store: str | None = None,
    dispatch: Dispatch = "deployed",
) -> Any:
    """Search for the networks that are fastest on the device, at the accuracy that is asked for.

    It can be killed at any moment: the same call goes on where it was, and repeats nothing that was complete.

    Args:
        study: A study's YAML file, or the name of one in the store.
        trials: In all; by default what the study says.
        additional_trials: More than there are, beyond the study's budget.
        fresh: Forget the trials there are.
        overrides: key=value each, as with --set.
        store: Path or s3:// URL; by default SECATEUR_STORE.
        dispatch: deployed: the other flows run on their own workers.
    """
    store_url = store or os.environ.get("SECATEUR_STORE", "runs/.store")
    files, wanted = find_study(study, store_url, overrides)
    try:
        async with hold(files, PREFECT_UI_URL.value()) as lease:
            opened = await open_study(files, wanted, trials, additional_trials, fresh=fresh)
            await _run(files, opened, dispatch, lease)
    except StudyCancelledError as exc:
        return Cancelled(message=str(exc))
    return None


async def _run(files: StudyFiles, study: Study, dispatch: Dispatch, lease: StudyLease) -> None:
    """Run baselines, then batch after batch, then what only the finalists deserve."""
    address = {"study": study.name, "store": files.store.url}
    progress_id = await start_progress(study.name)
    deadline = time.monotonic() + study.budget.hours * 3600 if study.budget.hours else None
    has_news = False
    await obey(files, lease)
    await make_baselines(files, lease, study, dispatch)
    results = await read_results(files)
    with progress.track(f"sweep {study.name}", total=study.budget.trials) as bar:
        bar.advance(_num_finished(results))
        while labels := await _next_batch(files, study, results, deadline):
            await obey(files, lease)
            # Pictures and Ax's model of the last batch take seconds, for which no trial waits.
            shown = [publish(files, whole(results), progress_id, study.budget.trials)] if has_news else []
            await wait_for_all([_run_batch(files, study, labels, dispatch, lease, deadline), *shown])
            was, results = results, await read_results(files)
            bar.advance(_num_finished(results) - _num_finished(was), note=_best(results))
            await observe(files, study, whole(results))
            has_news = True
    while labels := untested(results):
        await obey(files, lease)
        await tell(lease, "testing the finalists")
        await run_child(compress, "gpu", dispatch, **address, labels=labels, action="test")
        results = await read_results(files)
    await publish(files, whole(results), progress_id, study.budget.trials)
    await write_report(files, whole(results))


async def _run_batch(
    files: StudyFiles, study: Study, labels: list[str], dispatch: Dispatch, lease: StudyLease, deadline: float | None
) -> None:
    """Compress and measure trials; those that cannot win, once their latency is known, no further than that."""
    address = {"study": study.name, "store": files.store.url}
    if is_gated(study, files.read_premise()):
        labels = await _measure_untrained(files, study, labels, dispatch, lease)
    if not labels:
        return
    await tell(lease, f"compressing trials {', '.join(labels)}")
    await run_child(compress, "gpu", dispatch, **address, labels=labels)
    await tell(lease, f"measuring trials {', '.join(labels)}")
    beside = [] if most_epochs(study) else [_propose_ahead(files, study, deadline)]
    await wait_for_all([run_child(measure, "edge", dispatch, **address, labels=labels), *beside])


async def _measure_untrained(
    files: StudyFiles, study: Study, labels: list[str], dispatch: Dispatch, lease: StudyLease
) -> list[str]:
    """Measure trials before they are trained; return those that can still win."""
    address = {"study": study.name, "store": files.store.url}
    await tell(lease, f"measuring trials {', '.join(labels)} before training")
    await run_child(compress, "gpu", dispatch, **address, labels=labels, action="export")
    await run_child(measure, "edge", dispatch, **address, labels=labels)
    return await admit(files, study, labels)


async def _next_batch(files: StudyFiles, study: Study, results: StudyResults, deadline: float | None) -> list[str]:
    """Return the labels of trials to run next: those that were interrupted first."""
    if unfinished := [trial.label for trial in results.trials if not trial.is_finished]:
        return unfinished[: study.budget.parallel]
    return await _propose(files, study, results, deadline)


async def _propose_ahead(files: StudyFiles, study: Study, deadline: float | None) -> None:
    """Choose the next batch while this one is measured.

    Without retraining a trial takes seconds, as Ax does; with it, minutes, and better proposals are worth waiting for.
    """
    await _propose(files, study, await read_results(files), deadline)


async def _propose(files: StudyFiles, study: Study, results: StudyResults, deadline: float | None) -> list[str]:
    count = min(study.budget.parallel, study.budget.trials - len(results.trials))
    if count <= 0 or (deadline is not None and time.monotonic() > deadline):
        return []
    return [trial.label for trial in await propose(files, study, whole(results), count)]


def _num_finished(results: StudyResults) -> int:
    return sum(trial.is_finished for trial in results.trials)


def _best(results: StudyResults) -> str:
    """Return the best trial so far in a few words."""
    rows = leaderboard(results)
    if not rows or not rows[0].is_feasible:
        return "no trial keeps the constraints yet"
    metrics = ", ".join(f"{name} {rows[0].metrics[name]:.4g}" for name in results.study["search"]["objectives"])
    return f"best: trial {rows[0].record.label}, {metrics}"
