"""Who competes, who passes, who is promoted: on records made by hand."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from secateur.championship import Contest, Examination, Verdict
from secateur.config import ChampionRule
from secateur.errors import StudyError
from secateur.report import render_model_card
from secateur.results import UNPRUNED, TrialRecord
from secateur.results import TestScores as ScoresOnTest
from secateur.steps.contest import decide, open_contest, promote, roll_back, to_judge, to_publish, to_retrain
from secateur.store import StudyFiles
from tests.factories import make_baselines, make_record, make_study
from tests.fakes import MemoryStore

NUM_IMAGES = 2000
RULE = ChampionRule(contenders=2, seeds=3, margin=2.0)


def hits(top1: float, shift: int = 0) -> str:
    """Return what a network makes of the images: wrong about a block of them."""
    num_wrong = round(NUM_IMAGES * (1 - top1 / 100))
    wrong = {(shift + i) % NUM_IMAGES for i in range(num_wrong)}
    return "".join("0" if i in wrong else "1" for i in range(NUM_IMAGES))


@pytest.fixture
def files() -> StudyFiles:
    """A study of four trials: 1 and 2 are on the front, 0 is worse than both, 3 is beyond the margin."""
    files = StudyFiles(MemoryStore(), "resnet20-cifar10")
    study = make_study(constraints=("top1 >= baseline - 3.0",), training={"epochs": 1})
    files.write_study_yaml(yaml.safe_dump(study))
    trials = [
        make_record(0, top1=88.0, latency_ratio=0.9),
        make_record(1, top1=89.0, latency_ratio=0.7),
        make_record(2, top1=88.5, latency_ratio=0.5),
        make_record(3, top1=80.0, latency_ratio=0.2),
    ]
    for record in (*make_baselines().values(), *trials):
        files.write_record(record)
    return files


def run(files: StudyFiles, contest: Contest, changes: dict[str, dict[str, Any]] | None = None) -> None:
    """Pretend that every network of a contest was retrained, measured and judged."""
    ratios = {"1": 0.7, "2": 0.5}
    files.write_examination(Examination(label=UNPRUNED, images="objects/x", parity=1e-6, hits=hits(90.0)))
    for trial in contest.trials:
        for number, label in enumerate(contest.networks_of(trial)):
            top1 = 88.0 + number * 0.1
            how = {"top1": top1, "latency_ratio": ratios[trial], "hits": hits(89.8, number), "parity": 1e-6}
            how |= (changes or {}).get(trial, {})
            judged, parity = how.pop("hits"), how.pop("parity")
            files.write_record(make_record(label, parameters={}, **how))
            files.write_examination(Examination(label=label, images="objects/x", parity=parity, hits=judged))


def verdict_of(contest: Contest, trial: str) -> Verdict:
    return next(verdict for verdict in contest.verdicts if verdict.trial == trial)


def publish(files: StudyFiles, labels: list[str]) -> None:
    for label in labels:
        examination = files.read_examination(label)
        assert examination is not None
        when = ("2026-11-22T04:00:00+00:00",)
        scores = ScoresOnTest(top1=89.5, top5=99.0, loss=0.4, num_images=5000, accessed_at=when, sensitivity=(0.8, 0.9))
        files.write_examination(examination.model_copy(update={"published": scores}))


def test_the_best_trials_compete_with_fresh_seeds(files: StudyFiles) -> None:
    contest = open_contest(files, RULE)
    assert (contest.number, contest.trials, contest.margin) == (1, ("2", "1"), 2.0)
    assert contest.seeds == (1_000_000, 1_000_001, 1_000_002)
    assert to_retrain(files, contest) == [UNPRUNED, "2-1", "2-2", "2-3", "1-1", "1-2", "1-3"]
    record = files.read_record("2-3")
    assert (record.state, record.seed, record.parameters) == ("proposed", 1_000_002, files.read_record("2").parameters)
    assert open_contest(files, RULE) == contest
    assert len(files.contests()) == 1
    assert files.read_record("2-3") == record  # not proposed anew


def test_another_rule_or_a_better_trial_opens_another_contest(files: StudyFiles) -> None:
    open_contest(files, RULE)
    assert open_contest(files, RULE.model_copy(update={"margin": 3.0})).number == 2
    files.write_record(make_record(4, top1=89.5, latency_ratio=0.4))
    assert open_contest(files, RULE).trials == ("4", "2")


def test_equal_networks_compete_once(files: StudyFiles) -> None:
    files.write_record(make_record(4, top1=88.6, latency_ratio=0.5, replicate_of="2"))
    files.write_record(make_record(5, top1=88.4, latency_ratio=0.499, same_as="2"))
    trials = open_contest(files, ChampionRule(contenders=9, margin=2.5)).trials
    assert [trial for trial in trials if trial in {"2", "4", "5"}] == [trials[0]]
    assert set(trials[1:]) == {"1", "0"}


def test_no_trial_keeps_the_constraints(files: StudyFiles) -> None:
    for label in ("0", "1", "2"):
        files.write_record(make_record(label, top1=10.0))
    with pytest.raises(StudyError, match=r"no trial keeps the constraints with a top1 at most 2 points below"):
        open_contest(files, RULE)


def test_what_is_left_to_do(files: StudyFiles) -> None:
    contest = open_contest(files, RULE)
    run(files, contest)
    assert (to_retrain(files, contest), to_judge(files, contest)) == ([], [])
    files.write_record(make_record("2-2", state="compressed", latency_ratio=None))
    examination = files.read_examination("1-1")
    assert examination is not None
    files.write_examination(examination.model_copy(update={"hits": None}))
    assert to_judge(files, contest) == ["2-2", "1-1"]
    files.write_record(make_record("2-2", state="failed"))
    assert to_judge(files, contest) == ["1-1"]


def test_of_those_that_pass_the_best_by_the_study_s_rule_wins(files: StudyFiles) -> None:
    contest = open_contest(files, RULE)
    run(files, contest)
    contest = decide(files, contest)
    assert files.contests() == (contest,)
    assert contest.winner == "2"
    verdict = verdict_of(contest, "2")
    assert verdict.problems == ()
    assert verdict.network == "2-2"  # neither the best of its seeds nor the worst
    assert verdict.top1 == pytest.approx((89.8, 89.8, 89.8))
    assert verdict.unpruned_top1 == pytest.approx(90.0)
    assert verdict.difference is not None
    assert verdict.difference.estimate == pytest.approx(-0.2)
    assert verdict.difference.confidence == pytest.approx(0.975)
    assert verdict.difference.low > -2.0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"hits": hits(87.0)},
            r"top1 may be 3\.\d\d points below the unpruned network's, more than the margin of 2: -3.00",
        ),
        (
            {"latency_ratio": 1.001},
            r"it may be no faster than the unpruned network: its latency ratio is 1\.001 \[0\.99",
        ),
        ({"state": "noisy"}, "its latency ratio stayed noisy"),
        ({"top1": 80.0}, "retrained, it breaks the study's constraint 'top1 >= baseline - 3.0': top1 is 80"),
        ({"parity": 0.02}, r"the ONNX file computes something else: max \|torch - onnx\| is 0.02 of the largest"),
        ({"parity": float("inf")}, "the ONNX file computes something else"),
        ({"state": "failed"}, "2-1: The runner was silent"),
    ],
    ids=["accuracy", "latency", "noise", "constraint", "parity", "infinite", "failed"],
)
def test_who_fails_does_not_win(files: StudyFiles, changes: dict[str, Any], problem: str) -> None:
    contest = open_contest(files, RULE)
    run(files, contest, {"2": changes})
    contest = decide(files, contest)
    assert contest.winner == "1"
    assert re.search(problem, " ".join(verdict_of(contest, "2").problems))


def test_what_was_noisy_is_measured_again_where_nobody_has_won(files: StudyFiles) -> None:
    contest = open_contest(files, RULE)
    run(files, contest, {"2": {"state": "noisy"}})
    contest = decide(files, contest)
    assert open_contest(files, RULE) == contest  # trial 1 has won
    run(files, contest, {"2": {"state": "noisy"}, "1": {"hits": hits(80.0)}})
    assert decide(files, contest).winner is None
    contest = open_contest(files, RULE)
    assert not contest.is_decided
    assert to_retrain(files, contest) == []
    assert to_judge(files, contest) == ["2-1", "2-2", "2-3"]


def test_the_slow_end_of_the_interval_must_keep_a_constraint(files: StudyFiles) -> None:
    study = make_study(constraints=("latency_ratio <= 0.501",), training={"epochs": 1})
    files.write_study_yaml(yaml.safe_dump(study))
    contest = open_contest(files, RULE)
    assert contest.trials == ("2",)
    run(files, contest)
    contest = decide(files, contest)
    (problem,) = verdict_of(contest, "2").problems
    assert problem == "retrained, it breaks the study's constraint 'latency_ratio <= 0.501': latency_ratio is 0.502."


def test_nobody_passes_and_nobody_is_promoted(files: StudyFiles) -> None:
    contest = open_contest(files, RULE)
    run(files, contest, {"1": {"parity": 1.0}, "2": {"parity": 1.0}})
    contest = decide(files, contest)
    assert contest.winner is None
    assert to_publish(files, contest) == []
    with pytest.raises(StudyError, match="no trial passed contest 1, so there is none to promote"):
        promote(files, contest)


def _promoted(files: StudyFiles, rule: ChampionRule) -> TrialRecord:
    contest = open_contest(files, rule)
    run(files, contest)
    contest = decide(files, contest)
    publish(files, to_publish(files, contest))
    assert to_publish(files, contest) == []
    return promote(files, contest).champion.record


def test_promote_again_and_roll_back(files: StudyFiles) -> None:
    with pytest.raises(StudyError, match="there was never a champion, so there is nothing to roll back to"):
        roll_back(files)
    assert _promoted(files, RULE).label == "2-2"
    first = files.read_champion()
    assert first is not None
    assert promote(files, files.contests()[-1]) == first  # again: nothing changes
    with pytest.raises(StudyError, match="there is no champion before this one"):
        roll_back(files)
    _promoted(files, RULE.model_copy(update={"margin": 3.0}))
    second = files.read_champion()
    assert second is not None
    assert (len(second.history), second.current) == (2, 1)
    assert roll_back(files).champion == first.champion
    again = promote(files, files.contests()[-1])
    assert (len(again.history), again.current) == (3, 2)
    assert roll_back(files).champion == first.champion  # not the one that was rolled back before
    with pytest.raises(StudyError, match="there is no champion before this one"):
        roll_back(files)


def test_a_champion_outlives_its_study(files: StudyFiles) -> None:
    _promoted(files, RULE)
    alias = files.read_champion()
    files.remove()
    assert not files.exists()
    assert files.contests() == ()
    assert files.read_champion() == alias


def test_the_model_card_tells_it_all(files: StudyFiles) -> None:
    _promoted(files, RULE)
    alias = files.read_champion()
    assert alias is not None
    card = render_model_card(alias.champion)
    assert card.startswith("# resnet20-cifar10: champion\n")
    for said in (
        "0.500 [0.498, 0.502]",
        "top1 89.50 [88.62, 90.32] on test images",
        "2026-11-22T04:00:00+00:00",
        "Trials 2, 1, the best by its rule, were retrained with 3 fresh seeds each (1000000, 1000001, 1000002)",
        "| 2 | 89.80, 89.80, 89.80 | -0.20 [",
        "is above the margin of -2.",
        "| conv1 | 3 | 4 | 0, 2, 3 |",
        "epochs: 1",
        "objects/checkpoint-200000",
        "torch 2.13.0",
        "Intel(R) Xeon(R) Processor @ 2.60GHz (CPU, f32, 1 thread(s), OpenVINO 2026.4.0-21345)",
        "used by 1 contest(s)",
        "The class found least is found in 80.0% of its test images.",
    ):
        assert said in card, said
