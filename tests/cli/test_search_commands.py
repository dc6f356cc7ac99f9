"""`secateur try` and `secateur import-wandb`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from secateur.store import StudyFiles, open_store
from tests.cli.conftest import Secateur
from tests.flows.tiny import SCHEDULE, write_study

P0, P1 = "pruner_0.desired_sparsity", "pruner_1.desired_sparsity"
SWEEP = """\
program: pipeline.py
method: random
metric: {name: Latency, goal: minimize}
parameters:
  pruner_0: {min: 0.0, max: 0.9}
  layer_2: {values: [0.25, 0.5]}
"""


def files_of(folder: Path) -> StudyFiles:
    return StudyFiles(open_store(str(folder / "runs/.store")), "tiny")


def test_try_queues_a_candidate(secateur: Secateur, tmp_path: Path) -> None:
    write_study(tmp_path)
    typed = secateur("try", "study.yaml", f"{P0}=0.25")
    assert typed.code == 0, typed.err
    assert typed.out == f"trial 0 of tiny: {P0} = 0.25, {P1} = 0.5\n'secateur sweep study.yaml' runs it next.\n"
    (record,) = files_of(tmp_path).trials()
    assert (record.state, record.method, record.seed) == ("proposed", "manual", 0)
    assert (record.parameters, record.remark) == ({P0: 0.25, P1: 0.5}, "Queued by a person: secateur try.")
    typed = secateur("try", "tiny", f"{P1}=0", "--json")  # by its name in the store
    assert json.loads(typed.out) == {"study": "tiny", "trial": "1", "parameters": {P0: 0.5, P1: 0}}
    assert files_of(tmp_path).exists()


@pytest.mark.parametrize(
    ("assignment", "problem"),
    [
        ("pruner_0.sparsity=0.5", f"'pruner_0.sparsity' is no parameter of 'tiny'. Did you mean '{P0}'?"),
        (f"{P0}=1.5", "desired_sparsity must be in [0, 1), got 1.5."),
        (f"{P0}", f"'{P0}': expected NAME=VALUE, such as filter_pruner_70.desired_sparsity=0.5."),
        (f"{P0}=[1]", f"'{P0}=[1]': expected a number or a name as its value."),
        (f"{P0}=true", "expected a number or a name as its value."),
        (f"{P0}=0.27", "trial 0 of 'tiny' has this network already: 'secateur status tiny'."),
    ],
)
def test_try_refuses(secateur: Secateur, tmp_path: Path, assignment: str, problem: str) -> None:
    write_study(tmp_path)
    assert secateur("try", "study.yaml", f"{P0}=0.25").code == 0
    typed = secateur("try", "study.yaml", assignment)
    assert (typed.code, typed.out) == (2, "")
    assert problem in typed.err
    assert len(files_of(tmp_path).trials()) == 1


def test_import_wandb_writes_a_study_that_is_right(secateur: Secateur, tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(SCHEDULE))
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    (tmp_path / "studies").mkdir()
    options = ("--model", "python:tests.flows.tiny:network", "--dataset", "python:tests.flows.tiny:images")
    command = ("import-wandb", "sweep.yaml", "--schedule", "base.yaml", *options, "--rename", "layer_2=pruner_1")
    typed = secateur(*command, "--out", "studies/mine.yaml")
    assert typed.code == 0, typed.err
    assert "sweep.yaml:1: 'program' has no counterpart in a study and was left out." in typed.err
    text = (tmp_path / "studies/mine.yaml").read_text()
    assert text.startswith("# From sweep.yaml, a W&B sweep configuration.\n# Nothing is retrained yet")
    study = yaml.safe_load(text)
    assert (study["name"], study["schedule"]) == ("mine", "../base.yaml")
    assert study["search"]["parameters"] == {P0: {"min": 0.0, "max": 0.9}, P1: {"values": [0.25, 0.5]}}
    typed = secateur("check", "studies/mine.yaml")
    assert typed.code == 0, typed.err
    assert yaml.safe_load(secateur(*command).out)["schedule"] == "base.yaml"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ((), "sweep.yaml:6: parameter 'layer_2' is neither in base.yaml nor a setting of training."),
        (("--rename", "layer_2"), "--rename layer_2: expected NAME=ENTRY.FIELD"),
        (("--rename", "layer_2=pruner_1", "--out", "no/where.yaml"), "--out no/where.yaml: there is no folder no"),
        (("--rename", "layer_2=pruner_1", "--model", "resnet9_cifar"), "resnet9_cifar"),
    ],
)
def test_import_wandb_refuses(secateur: Secateur, tmp_path: Path, options: tuple[str, ...], problem: str) -> None:
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(SCHEDULE))
    (tmp_path / "sweep.yaml").write_text(SWEEP)
    model = () if "--model" in options else ("--model", "python:tests.flows.tiny:network")
    typed = secateur("import-wandb", "sweep.yaml", "--schedule", "base.yaml", "--dataset", "digits", *model, *options)
    assert typed.code == 2
    assert problem in typed.err
