"""`secateur champion`: show, choose, promote, roll back, export."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows import run_champion
from secateur.championship import Alias, Contest
from secateur.cli.display import progress_on_stderr
from secateur.cli.out_folder import write_files
from secateur.cli.output import print_json, print_table, say
from secateur.errors import StudyError
from secateur.steps.contest import roll_back
from secateur.steps.export_champion import champion_files
from secateur.steps.source import find_study, stored_study
from secateur.store import StudyFiles, StudyLease


def champion(
    study: str,
    overrides: Sequence[str],
    store: str,
    *,
    is_choosing: bool,
    is_promoting: bool,
    is_rolling_back: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    """Do what is asked for, then show the champion and the last contest.

    Raises:
        StudyError: There is no such study; or no trial that can compete, to promote, to roll back to or to export.
        StudyBusyError: Somebody runs the study.
    """
    files, _ = find_study(study, store, overrides)
    stored_study(files)
    with progress_on_stderr():
        if is_choosing:
            run_champion(study, store=store, promote=is_promoting, overrides=overrides)
        if is_rolling_back:
            with StudyLease(files.store, files.name).held():
                roll_back(files)
        written = [] if out is None else _export(files, out)
    contests, alias = files.contests(), files.read_champion()
    contest = contests[-1] if contests else None
    if as_json:
        print_json(_document(files.name, contest, alias, written))
        return
    if contest is not None:
        _print_contest(contest)
    _print_champion(files.name, contest, alias)
    if written:
        say("\n".join(written))


def _export(files: StudyFiles, folder: Path) -> list[str]:
    """Write the champion's files into a folder; return their paths.

    Raises:
        StudyError: There is no champion.
        ExportError: OpenVINO's IR computes something else than the ONNX file.
        InputError: DIR cannot be written.
    """
    write_files(folder, {})
    alias = files.read_champion()
    if alias is None:
        raise StudyError(
            f"study {files.name!r}: there is no champion to export."
            f" 'secateur champion {files.name} --promote' makes one."
        )
    contents = champion_files(files.store, alias.champion)
    write_files(folder, contents)
    return [str(folder / name) for name in contents]


def _document(study: str, contest: Contest | None, alias: Alias | None, written: Sequence[str]) -> dict[str, Any]:
    return {
        "study": study,
        "contest": None if contest is None else contest.model_dump(mode="json"),
        "champion": None if alias is None else alias.champion.model_dump(mode="json"),
        "history": [] if alias is None else [_line(alias, number) for number in range(len(alias.history))],
        "written": written,
    }


def _line(alias: Alias, number: int) -> dict[str, Any]:
    promotion = alias.history[number]
    return {
        "network": promotion.record.label,
        "contest": promotion.contest.number,
        "promoted_at": promotion.promoted_at,
        "is_current": number == alias.current,
    }


def _print_contest(contest: Contest) -> None:
    if not contest.is_decided:
        trials = ", ".join(contest.trials)
        say(f"Contest {contest.number} (trials {trials}) is not decided yet: --choose goes on with it.")
        return
    rows = []
    for verdict in contest.verdicts:
        ratio, difference = verdict.latency_ratio, verdict.difference
        rows.append(
            (
                verdict.trial,
                "*" if verdict.trial == contest.winner else "",
                "-" if not verdict.top1 else f"{sum(verdict.top1) / len(verdict.top1):.2f}",
                "-"
                if difference is None
                else f"{difference.estimate:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]",
                "-" if ratio is None else f"{ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]",
                " ".join(verdict.problems) or "passed",
            )
        )
    columns = ("trial", "", "mean top1 %", "to unpruned, points", "latency ratio", "verdict")
    print_table(f"Contest {contest.number}, margin {contest.margin:g} points (*: the winner)", columns, rows)


def _print_champion(study: str, contest: Contest | None, alias: Alias | None) -> None:
    if alias is None:
        has_winner = contest is not None and contest.winner is not None
        what = "--promote' makes the winner it" if has_winner else "--choose' lets the best trials compete"
        say(f"{study} has no champion yet. 'secateur champion {study} {what}.")
        return
    current = alias.champion
    assert current.verdict.latency_ratio is not None
    ratio = current.verdict.latency_ratio
    say(
        f"Champion: network {current.record.label}, promoted {current.promoted_at}: latency ratio {ratio.estimate:.3f}"
        f" [{ratio.low:.3f}, {ratio.high:.3f}], test top1 {current.test.top1:.2f} % (unpruned"
        f" {current.unpruned_test.top1:.2f} %)."
    )
    for number, promotion in enumerate(alias.history):
        if number != alias.current:
            when = "Earlier" if number in alias.replaced else "Rolled back"
            say(f"{when}: network {promotion.record.label}, promoted {promotion.promoted_at}.")
