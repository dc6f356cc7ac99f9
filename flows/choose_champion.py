"""The `champion` flow: lets the best trials compete, retrained, and promotes the winner. Runs on the control host."""

from __future__ import annotations

import os
from typing import Any

from prefect import flow
from prefect.settings import PREFECT_UI_URL
from prefect.states import Cancelled

from flows.child_dispatch import Dispatch, run_child
from flows.judge_contenders import judge
from flows.retrain_contenders import retrain
from secateur.championship import Contest
from secateur.errors import StudyCancelledError
from secateur.steps.contest import to_judge, to_publish, to_retrain
from secateur.steps.source import find_study, stored_study
from secateur.store import StudyFiles, StudyLease
from tasks.champions import decide, open_contest, promote_winner
from tasks.control import hold, obey, tell


@flow(name="champion", flow_run_name="champion of {study}", persist_result=False)
async def champion(
    study: str,
    promote: bool = False,
    overrides: list[str] = [],  # noqa: B006 (nobody changes it)
    store: str | None = None,
    dispatch: Dispatch = "deployed",
) -> Any:
    """Choose the champion of a study.

    It can be killed at any moment: the same call goes on, and retrains nothing twice.

    Args:
        study: A study's YAML file, or the name of one in the store.
        promote: Also make the winner the champion, if there is one; its published figure is then computed.
        overrides: key=value each, as with --set; for a file.
        store: Path or s3:// URL; by default SECATEUR_STORE.
        dispatch: deployed: the other flows run on their own workers.
    """
    files, wanted = find_study(study, store or os.environ.get("SECATEUR_STORE", "runs/.store"), overrides)
    stored_study(files)
    try:
        async with hold(files, PREFECT_UI_URL.value()) as lease:
            contest = await open_contest(files, wanted.champion)
            if not contest.is_decided:
                contest = await _run(files, contest, dispatch, lease)
            if promote:
                await _publish(files, contest, dispatch, lease)
                await promote_winner(files, contest)
    except StudyCancelledError as exc:
        return Cancelled(message=str(exc))
    return None


async def _run(files: StudyFiles, contest: Contest, dispatch: Dispatch, lease: StudyLease) -> Contest:
    """Retrain, judge, decide."""
    address = {"study": files.name, "store": files.store.url}
    while labels := to_retrain(files, contest):
        await obey(files, lease)  # a child that is told to pause returns early
        await tell(lease, f"retraining contenders {', '.join(labels)}")
        await run_child(retrain, "gpu", dispatch, **address, labels=labels)
    while labels := to_judge(files, contest):
        await obey(files, lease)
        await tell(lease, f"judging contenders {', '.join(labels)}")
        await run_child(judge, "edge", dispatch, **address, labels=labels)
    return await decide(files, contest)


async def _publish(files: StudyFiles, contest: Contest, dispatch: Dispatch, lease: StudyLease) -> None:
    """Evaluate the winner on what is left of the test part."""
    address = {"study": files.name, "store": files.store.url}
    while labels := to_publish(files, contest):
        await obey(files, lease)
        await tell(lease, "evaluating the winner on test data")
        await run_child(retrain, "gpu", dispatch, **address, labels=labels, action="publish")
