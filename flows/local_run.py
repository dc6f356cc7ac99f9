"""Run a study in this process, from the command line or a notebook."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.embedded_server import EmbeddedServer, NamedServer, prefect_server
from secateur import progress
from secateur.championship import Contest
from secateur.config import Study
from secateur.preflight import find_checked
from secateur.results import StudyResults
from secateur.steps.open import finished
from secateur.steps.report import write_report
from secateur.steps.source import find_study, stored_study
from secateur.store import StudyFiles, StudyLease

_PREFECT_HOME = Path("runs/.prefect")


def run_study(
    study: Study | Path | str,
    *,
    store: str = "runs/.store",
    trials: int | None = None,
    additional_trials: int = 0,
    fresh: bool = False,
    overrides: Sequence[str] = (),
) -> StudyResults:
    """Run a study to its end, in this process, and return all that is known of it.

    Args:
        study: A `Study`, the path of its YAML file, or the name of one in the store.
        store: A folder, or ``s3://bucket/prefix``.
        trials: In all, instead of the study's budget.
        additional_trials: More than the study was to have so far.
        fresh: Forget the trials there are.
        overrides: ``key=value`` each, as with ``--set``.

    Raises:
        InputError: The study is wrong.
        StudyBusyError: Another sweep of this study is running.
        StudyCancelledError: Somebody cancelled it.
        SecateurError: The store, the device or training failed; the same call goes on from there.
    """
    with _as_file(study) as source:
        files, wanted = _checked(source, store, overrides)
        if not (fresh or additional_trials) and (results := finished(files, wanted, trials=trials)):
            write_report(files, results)  # it may have been killed just before that
            return results
        with prefect_server(_PREFECT_HOME) as server:
            # Prefect reads its settings when it is imported: not before it is known where the server is.
            from flows.flow_run import run_flow
            from flows.sweep_study import sweep

            _await(server)
            run_flow(
                lambda: sweep(
                    study=source,
                    trials=trials,
                    additional_trials=additional_trials,
                    fresh=fresh,
                    overrides=list(overrides),
                    store=store,
                    dispatch="in_process",
                    return_state=True,
                )
            )
    return files.results()


def run_baseline(
    study: Study | Path | str, *, store: str = "runs/.store", overrides: Sequence[str] = ()
) -> StudyResults:
    """Make and measure a study's baselines alone; arguments and errors as `run_study`."""
    with _as_file(study) as source:
        files, _ = _checked(source, store, overrides)
        with prefect_server(_PREFECT_HOME) as server:
            from flows.flow_run import run_flow
            from flows.prepare_baseline import baseline

            _await(server)
            run_flow(
                lambda: baseline(
                    study=source, overrides=list(overrides), store=store, dispatch="in_process", return_state=True
                )
            )
    return files.results()


def run_champion(
    study: Path | str, *, store: str = "runs/.store", promote: bool = False, overrides: Sequence[str] = ()
) -> Contest:
    """Let the best trials of a study compete, retrained with fresh seeds; return the contest as it was decided.

    Args:
        study: The path of its YAML file, or its name in the store.
        store: A folder, or ``s3://bucket/prefix``.
        promote: Also make the winner the champion.
        overrides: ``key=value`` each, as with ``--set``; for a file.

    Raises:
        StudyError: There is no such study, no trial that could compete, or none that could be promoted.
        StudyBusyError: Somebody runs this study.
        SecateurError: The store, the device or training failed; the same call goes on from there.
    """
    files = _begun(str(study), store, overrides)
    with prefect_server(_PREFECT_HOME) as server:
        from flows.choose_champion import champion
        from flows.flow_run import run_flow

        _await(server)
        run_flow(
            lambda: champion(
                study=str(study),
                promote=promote,
                overrides=list(overrides),
                store=store,
                dispatch="in_process",
                return_state=True,
            )
        )
    return files.contests()[-1]


def run_remeasure(study: Path | str, *, store: str = "runs/.store") -> None:
    """Measure a study's champion and baselines again, here, and compare with the nights before.

    Arguments and errors as `run_champion`.

    Raises:
        DriftError: The device or a network is not what it was.
    """
    _begun(str(study), store)
    with prefect_server(_PREFECT_HOME) as server:
        from flows.flow_run import run_flow
        from flows.remeasure_champion import remeasure

        _await(server)
        run_flow(lambda: remeasure(study=str(study), store=store, dispatch="in_process", return_state=True))


def _begun(study: str, store: str, overrides: Sequence[str] = ()) -> StudyFiles:
    """Find a study that was begun, and that nobody runs."""
    files, _ = find_study(study, store, overrides)
    stored_study(files)
    StudyLease(files.store, files.name).check()
    return files


def _await(server: EmbeddedServer | NamedServer) -> None:
    """Return when it answers, and tell where a browser finds it."""
    with progress.track("starting Prefect"):
        server.wait()
    progress.message(f"Prefect's UI: {server.url}")


def _checked(source: str, store: str, overrides: Sequence[str]) -> tuple[StudyFiles, Study]:
    """Find out what is wrong before a server is started for it."""
    files, study = find_checked(source, store, overrides)
    StudyLease(files.store, files.name).check()
    return files, study


@contextmanager
def _as_file(study: Study | Path | str) -> Iterator[str]:
    """Provide a study's YAML file; a name in the store stays a name."""
    if not isinstance(study, Study):
        yield str(study)
        return
    # Paths in it are meant from here, those in a file from the file's folder.
    here = Study.model_validate(study.model_dump(mode="json", by_alias=True), context={"base": Path.cwd()})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "study.yaml")
        path.write_text(here.to_yaml(), encoding="utf-8")
        yield str(path)
