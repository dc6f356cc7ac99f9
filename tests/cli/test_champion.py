"""`secateur champion` and `gc` on what was found before: nothing is computed here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from secateur.championship import Alias, Contest, Promotion, Verdict
from secateur.results import UNPRUNED
from secateur.results import TestScores as ScoresOnTest
from secateur.store import StudyFiles, open_store
from tests.cli.conftest import Secateur
from tests.factories import make_latency, make_record, make_results

NAME = "resnet20-cifar10"
STORE = ("--store", "store")


@pytest.fixture
def files(tmp_path: Path) -> StudyFiles:
    """A finished study."""
    results = make_results()
    files = StudyFiles(open_store(str(tmp_path / "store")), NAME)
    files.write_study_yaml(yaml.safe_dump(results.study))
    for record in (*results.baselines.values(), *results.trials):
        files.write_record(record)
    return files


def make_contest(*problems: str) -> Contest:
    verdict = Verdict(
        trial="8", problems=problems, network="8-2", top1=(89.5,) * 3, latency_ratio=make_latency(0.6).latency_ratio
    )
    winner = None if problems else "8"
    return Contest(
        number=1, trials=("8",), seeds=(7, 8, 9), margin=1.0, began_at="now", verdicts=(verdict,), winner=winner
    )


def make_promotion(label: str) -> Promotion:
    results, contest = make_results(), make_contest()
    scores = ScoresOnTest(top1=89.2, top5=99.0, loss=0.4, num_images=5000, accessed_at=("2026-11-22T04:00:00Z",))
    return Promotion(
        promoted_at="2026-11-22T04:00:00Z",
        study=results.study,
        contest=contest,
        verdict=contest.verdicts[0],
        record=make_record(label, parameters={}),
        unpruned=results.baselines[UNPRUNED],
        test=scores,
        unpruned_test=scores,
    )


def test_before_the_first(secateur: Secateur, files: StudyFiles) -> None:
    typed = secateur("champion", NAME, *STORE)
    assert typed.code == 0, typed.err
    assert (
        typed.out == f"{NAME} has no champion yet. 'secateur champion {NAME} --choose' lets the best trials compete.\n"
    )
    document = json.loads(secateur("champion", NAME, "--json", *STORE).out)
    assert document == {"study": NAME, "contest": None, "champion": None, "history": [], "written": []}


def test_a_contest_and_its_verdicts(secateur: Secateur, files: StudyFiles) -> None:
    files.write_contest(make_contest())
    assert f"'secateur champion {NAME} --promote' makes the winner it." in secateur("champion", NAME, *STORE).out
    files.write_contest(make_contest("it may be no faster than the unpruned network."))
    shown = secateur("champion", NAME, *STORE).out
    assert "it may be no faster" in shown
    assert "--choose" in shown
    files.write_contest(make_contest().model_copy(update={"verdicts": (), "winner": None}))
    assert (
        "Contest 1 (trials 8) is not decided yet: --choose goes on with it." in secateur("champion", NAME, *STORE).out
    )


def test_rolled_back(secateur: Secateur, files: StudyFiles) -> None:
    second = make_promotion("8-2").model_copy(update={"replaced": 0})
    files.write_champion(Alias(history=(make_promotion("1-1"), second), current=1))
    assert "Champion: network 8-2, " in secateur("champion", NAME, *STORE).out
    typed = secateur("champion", NAME, "--rollback", *STORE)
    assert "Champion: network 1-1, " in typed.out
    assert "Rolled back: network 8-2, promoted 2026-11-22T04:00:00Z." in typed.out
    history = json.loads(secateur("champion", NAME, "--json", *STORE).out)["history"]
    assert [(line["network"], line["is_current"]) for line in history] == [("1-1", True), ("8-2", False)]
    again = secateur("champion", NAME, "--rollback", *STORE)
    assert again.code == 2
    assert "there is no champion before this one" in again.err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            ("champion", NAME, "--rollback", "--promote"),
            "--rollback goes back to an earlier champion, so it cannot go with",
        ),
        (("champion", NAME, "--export", "out"), "there is no champion to export. 'secateur champion"),
        (("champion", "resnet20-cifar1"), "there is none. Did you mean 'resnet20-cifar10'?"),
        (("remeasure", "resnet20-cifar1"), "there is none. Did you mean 'resnet20-cifar10'?"),
        (("gc", "--store", "ftp://x"), "store: expected the path of a directory, or s3://bucket/prefix"),
    ],
    ids=["both", "export", "champion", "remeasure", "store"],
)
def test_bad_input(secateur: Secateur, files: StudyFiles, arguments: tuple[str, ...], problem: str) -> None:
    typed = secateur(*arguments, *(() if "--store" in arguments else STORE))
    assert typed.code == 2
    assert problem in typed.err


def test_an_empty_store_has_nothing_to_free(secateur: Secateur) -> None:
    assert "Kept: 0, 0.0 MB." in secateur("gc", *STORE).out
