"""Who is champion: open a contest among the best trials, decide it, promote its winner, roll back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from secateur.championship import Alias, Contest, Examination, Promotion, Verdict
from secateur.config import ChampionRule, Constraint
from secateur.errors import NotFoundError, StudyError
from secateur.export import TOLERANCE
from secateur.leaderboard import is_feasible, leaderboard
from secateur.noninferiority import top1_difference
from secateur.results import UNPRUNED, Interval, StudyResults, TrialRecord, metrics_of
from secateur.steps.record import now, proposed
from secateur.store import StudyFiles

_FIRST_FRESH_SEED = 1_000_000
"""Beyond the study's own: far from those of trials and their replicates."""


def open_contest(files: StudyFiles, rule: ChampionRule) -> Contest:
    """Return the contest that the study's records and the rule ask for: the last one, if it is that, or a new one.

    Raises:
        StudyError: No trial keeps the study's constraints and the margin.
    """
    results = files.results()
    trials = _best_trials(results, rule)
    if not trials:
        raise StudyError(
            f"study {files.name!r}: no trial keeps the constraints with a top1 at most {rule.margin:g} points below the"
            f" unpruned network's, so none can be champion. 'secateur status {files.name}' shows them; champion.margin"
            " allows more."
        )
    first_seed = results.study["search"]["seed"] + _FIRST_FRESH_SEED
    seeds = tuple(first_seed + number for number in range(rule.seeds))
    earlier = files.contests()
    if earlier and (earlier[-1].trials, earlier[-1].seeds, earlier[-1].margin) == (trials, seeds, rule.margin):
        contest = earlier[-1]
    else:
        contest = Contest(number=len(earlier) + 1, trials=trials, seeds=seeds, margin=rule.margin, began_at=now())
        files.write_contest(contest)
    for trial in contest.trials:
        parameters = files.read_record(trial).parameters
        for label, seed in zip(contest.networks_of(trial), contest.seeds, strict=True):
            _propose(files, proposed(files.name, label, method="champion", parameters=parameters, seed=seed))
    return contest if contest.winner is not None else _with_noisy_measured_again(files, contest)


def _best_trials(results: StudyResults, rule: ChampionRule) -> tuple[str, ...]:
    """Return the labels of the best trials that keep constraints and margin; of equal networks the best placed."""
    best: dict[str, str] = {}
    for row in leaderboard(results):
        record = row.record
        if row.is_feasible and row.metrics.get("top1_drop", math.inf) <= rule.margin:
            best.setdefault(record.same_as or record.replicate_of or record.label, record.label)
    return tuple(best.values())[: rule.contenders]


def _propose(files: StudyFiles, record: TrialRecord) -> None:
    try:
        files.read_record(record.label)  # of an earlier contest, or of this one before it was killed
    except NotFoundError:
        files.write_record(record)


def _with_noisy_measured_again(files: StudyFiles, contest: Contest) -> Contest:
    """Give what was only measured too noisily another chance, in a contest that nobody has won."""
    records = [files.read_record(label) for label in contest.contenders] if contest.is_decided else []
    noisy = [record for record in records if record.state == "noisy"]
    if not noisy:
        return contest
    contest = contest.model_copy(update={"verdicts": ()})
    files.write_contest(contest)
    for record in noisy:
        files.write_record(record.model_copy(update={"state": "compressed", "latency": None, "finished_at": None}))
    return contest


def to_retrain(files: StudyFiles, contest: Contest) -> list[str]:
    """Return the labels of networks that are not yet retrained and examined."""
    return [
        label
        for label in (UNPRUNED, *contest.contenders)
        if files.read_record(label).failure is None and files.read_examination(label) is None
    ]


def to_judge(files: StudyFiles, contest: Contest) -> list[str]:
    """Return the labels of networks that the device has not yet judged."""
    return [
        label
        for label in (UNPRUNED, *contest.contenders)
        if (record := files.read_record(label)).failure is None
        and (not record.is_finished or _examination(files, label).hits is None)
    ]


def to_publish(files: StudyFiles, contest: Contest) -> list[str]:
    """Return the labels of networks whose figure on test data is needed, and not known."""
    verdict = contest.winning_verdict
    if verdict is None or verdict.network is None:
        return []
    return [label for label in (UNPRUNED, verdict.network) if _examination(files, label).published is None]


def decide(files: StudyFiles, contest: Contest) -> Contest:
    """Give each trial its verdict, and find the winner: of those that pass, the best by the study's rule."""
    results = files.results()
    verdicts = tuple(_verdict(files, contest, results, trial) for trial in contest.trials)
    passed = {
        verdict.trial: files.read_record(verdict.network).model_copy(update={"label": verdict.trial})
        for verdict in verdicts
        if verdict.network is not None and not verdict.problems
    }
    ranked = leaderboard(results.model_copy(update={"trials": tuple(passed.values())}))
    contest = contest.model_copy(update={"verdicts": verdicts, "winner": ranked[0].record.label if ranked else None})
    files.write_contest(contest)
    return contest


def _verdict(files: StudyFiles, contest: Contest, results: StudyResults, trial: str) -> Verdict:
    records = [files.read_record(label) for label in contest.networks_of(trial)]
    failures = [f"{record.label}: {record.failure.message}" for record in records if record.failure is not None]
    if failures:
        return Verdict(trial=trial, problems=tuple(failures))
    examinations = [_examination(files, record.label) for record in records]
    hits_SN, unpruned_N = np.stack([_hits(e) for e in examinations]), _hits(_examination(files, UNPRUNED))
    difference = top1_difference(hits_SN, unpruned_N, num_comparisons=len(contest.trials))
    record, parity = _median(records), max(examination.parity for examination in examinations)
    problems = [*_latency_problems(record, results)]
    if difference.low < -contest.margin:
        problems.append(
            f"top1 may be {-difference.low:.2f} points below the unpruned network's, more than the margin of"
            f" {contest.margin:g}: {difference.estimate:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"
            f" on {hits_SN.shape[1]} images."
        )
    if not parity <= TOLERANCE:
        problems.append(f"the ONNX file computes something else: max |torch - onnx| is {parity:.3g} of the largest.")
    return Verdict(
        trial=trial,
        problems=tuple(problems),
        network=record.label,
        top1=tuple(100 * float(hits_N.mean()) for hits_N in hits_SN),
        unpruned_top1=100 * float(unpruned_N.mean()),
        difference=difference,
        latency_ratio=_latency_ratio(record),
        parity=parity,
        num_images=hits_SN.shape[1],
    )


def _latency_problems(record: TrialRecord, results: StudyResults) -> list[str]:
    """Return what the slow end of the latency ratio's interval breaks."""
    ratio, problems = _latency_ratio(record), []
    if record.state == "noisy":
        problems.append(f"its latency ratio stayed noisy: {ratio.estimate:.3f} [{ratio.low:.3f}, {ratio.high:.3f}].")
    if ratio.high >= 1:
        problems.append(
            f"it may be no faster than the unpruned network: its latency ratio is {ratio.estimate:.3f}"
            f" [{ratio.low:.3f}, {ratio.high:.3f}]."
        )
    metrics = metrics_of(record, results.baselines.get(UNPRUNED)) | {"latency_ratio": ratio.high}
    for text in results.study["search"]["constraints"]:
        constraint = Constraint.parse(text)
        if not is_feasible(metrics, [constraint], results.baseline_metrics):
            problems.append(
                f"retrained, it breaks the study's constraint {text!r}: {constraint.metric} is"
                f" {metrics.get(constraint.metric, float('nan')):.4g}."
            )
    return problems


def _median(records: Sequence[TrialRecord]) -> TrialRecord:
    """Return the network that is neither lucky nor unlucky on the first validation part; of two, the lower."""

    def top1(record: TrialRecord) -> float:
        assert record.compressed is not None
        return record.compressed.validation.top1

    return sorted(records, key=top1)[(len(records) - 1) // 2]


def _latency_ratio(record: TrialRecord) -> Interval:
    assert record.latency is not None
    return record.latency.latency_ratio


def _hits(examination: Examination) -> npt.NDArray[np.bool_]:
    assert examination.hits is not None
    return np.array([hit == "1" for hit in examination.hits])


def _examination(files: StudyFiles, label: str) -> Examination:
    found = files.read_examination(label)
    assert found is not None, label
    return found


def promote(files: StudyFiles, contest: Contest) -> Alias:
    """Make a contest's winner the champion; if it is that already, nothing changes.

    Raises:
        StudyError: Nobody won.
    """
    verdict, alias = contest.winning_verdict, files.read_champion()
    if verdict is None or verdict.network is None:
        raise StudyError(
            f"study {files.name!r}: no trial passed contest {contest.number}, so there is none to promote."
            f" 'secateur champion {files.name}' tells why."
        )
    record = files.read_record(verdict.network)
    if alias is not None and (alias.champion.record.label, alias.champion.contest) == (record.label, contest):
        return alias
    test, unpruned_test = (_examination(files, label).published for label in (verdict.network, UNPRUNED))
    assert test is not None
    assert unpruned_test is not None
    results = files.results()
    promotion = Promotion(
        promoted_at=now(),
        study=results.study,
        contest=contest,
        verdict=verdict,
        record=record,
        unpruned=results.baselines[UNPRUNED],
        test=test,
        unpruned_test=unpruned_test,
        replaced=None if alias is None else alias.current,
    )
    history = (*(alias.history if alias is not None else ()), promotion)
    alias = Alias(history=history, current=len(history) - 1)
    files.write_champion(alias)
    return alias


def roll_back(files: StudyFiles) -> Alias:
    """Make the champion that the current one replaced champion again.

    Raises:
        StudyError: There is none.
    """
    alias = files.read_champion()
    if alias is None or alias.champion.replaced is None:
        what = "was never a champion" if alias is None else "is no champion before this one"
        raise StudyError(f"study {files.name!r}: there {what}, so there is nothing to roll back to.")
    alias = alias.model_copy(update={"current": alias.champion.replaced})
    files.write_champion(alias)
    return alias
