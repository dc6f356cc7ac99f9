"""Bad input costs no work and shows no traceback: one message that says what to do, and exit code 2."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Secateur, Typed
from tests.flows.tiny import write_study


def _check_refused(typed: Typed, folder: Path, message: str, code: int = 2) -> None:
    assert typed.code == code
    assert re.search(message, typed.err, re.DOTALL), typed.err
    assert typed.err.startswith("secateur: ")
    assert "Traceback" not in typed.err + typed.out
    assert typed.out == ""
    assert not (folder / "runs" / ".prefect").exists(), "a server was started"
    assert not (folder / "store" / "studies").exists(), "a study was begun"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("serch.seed=1", "--set serch.seed=1: unknown key 'serch'. Did you mean 'search'"),
        ("search.seed=many", "'search.seed': .*got 'many'"),
        ("training.epochs", "expected key=value"),
        ("model=resnet20_cifer", "unknown model 'resnet20_cifer'. Did you mean 'resnet20_cifar'"),
        ("model=python:tests.flows.tiny:netwrk", "has no 'netwrk'. Did you mean 'network'"),
        ("dataset=digit", "there is no 'digit'. Did you mean 'digits'"),
        ("dataset=imagefolder:photos", "photos"),
        ("device=cpuu", "there is no profile 'cpuu'. Did you mean 'cpu'"),
        ("device={device: TPU}", "TPU.*CPU"),
        ('search.constraints=["topp1 >= 3"]', "unknown metric 'topp1'. Did you mean 'top1'"),
        ('search.constraints=["top1 > 3"]', "expected 'metric >= number'"),
        ("search.objectives={latency: minimize}", "unknown metric 'latency'"),
        ("search.parameters.pruner_0.desired_sparsity.max=1.2", r"desired_sparsity must be in \[0, 1\), got 1.2"),
        ("search.parameters.prunr_0.desired_sparsity={min: 0, max: 0.5}", "Did you mean 'pruner_0.desired_sparsity'"),
        ("weights=missing.npz", "missing.npz: there is no such file"),
        ("schedule=missing.yaml", "missing.yaml: there is no such file"),
    ],
    ids=lambda value: value if "=" in value else "",
)
def test_a_study_that_is_wrong(secateur: Secateur, tmp_path: Path, override: str, message: str) -> None:
    typed = secateur("sweep", write_study(tmp_path), "--store", "store", "--set", override)
    _check_refused(typed, tmp_path, message)


def _break_yaml(folder: Path) -> None:
    (folder / "study.yaml").write_text("name: x\nsearch: [1\n")


def _wrong_weights(folder: Path) -> None:
    np.savez(folder / "weights.npz", **{"conv1.weight": np.zeros((4, 3, 3, 3), np.float32)})
    with (folder / "study.yaml").open("a") as study:
        study.write("weights: weights.npz\n")


def _layer_the_model_lacks(folder: Path) -> None:
    schedule = folder / "schedule.yaml"
    schedule.write_text(schedule.read_text().replace("blocks.0.conv1", "blocks.7.conv1"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_break_yaml, r"study\.yaml:\d+: this is not YAML"),
        (_wrong_weights, r"study\.yaml:\d+: weights .*do not fit the model"),
        (_layer_the_model_lacks, r"schedule\.yaml:\d+: .*'module.blocks.7.conv1.weight' is not in .*Did you mean"),
        (lambda folder: (folder / "study.yaml").unlink(), r"study\.yaml: there is no such file"),
        (lambda folder: (folder / "quick.yaml").write_text("num_threads: 0\n"), "num_threads"),
    ],
    ids=["broken yaml", "weights that do not fit", "layer the model lacks", "missing file", "wrong device profile"],
)
def test_files_that_are_wrong(
    secateur: Secateur, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    study = write_study(tmp_path)
    spoil(tmp_path)
    _check_refused(secateur("sweep", study, "--store", "store"), tmp_path, message)


def test_a_store_that_cannot_be_reached(secateur: Secateur, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECATEUR_S3_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "an-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
    typed = secateur("sweep", write_study(tmp_path), "--store", "s3://bucket")
    _check_refused(typed, tmp_path, "127.0.0.1:9.*cannot be reached.*SECATEUR_S3_ENDPOINT", code=1)
    assert "a-secret" not in typed.err


def test_a_store_that_refuses_the_credentials(
    secateur: Secateur, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3_endpoint: dict[str, str]
) -> None:
    for name, value in {**s3_endpoint, "AWS_SECRET_ACCESS_KEY": "wrong-secret"}.items():
        monkeypatch.setenv(name, value)
    typed = secateur("sweep", write_study(tmp_path), "--store", "s3://refused")
    _check_refused(typed, tmp_path, "AWS_", code=1)
    assert "wrong-secret" not in typed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("benchmark", "missing.onnx"), "missing.onnx: there is no such ONNX file"),
        (("check", "missing.yaml"), "missing.yaml: there is no such file"),
        (("pause", "unknown"), "there is none"),
        (("report", "unknown"), "there is none"),
        (("status", "unknown"), "there is none"),
        (("status", "--store", "ftp://x"), "expected the path of a directory, or s3://bucket/prefix"),
        (("prune", "--model", "resnet20_cifar", "--schedule", "missing.yaml", "--out", "out"), "there is no such file"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_other_commands(secateur: Secateur, tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    _check_refused(secateur(*arguments), tmp_path, message)


def test_check_tells_every_problem_at_its_place(secateur: Secateur, tmp_path: Path) -> None:
    study = write_study(tmp_path, {"model": "resnet20_cifer", "dataset": "digit"})
    (tmp_path / "schedule.yaml").write_text("policies: 5\nprunners: {}\n")
    typed = secateur("check", study)
    assert typed.code == 2
    assert "unknown section 'prunners'" in typed.err
    assert "schedule.yaml:1" in typed.err
    assert "schedule.yaml:2" in typed.err


def test_check_tells_what_the_study_names_wrongly_line_by_line(secateur: Secateur, tmp_path: Path) -> None:
    changes = {"model": "resnet20_cifer", "dataset": "digit", "weights": "missing.npz", "evaluation": "python:a:b"}
    typed = secateur("check", write_study(tmp_path, changes))
    lines = (tmp_path / "study.yaml").read_text().splitlines()
    places = {key: next(i for i, line in enumerate(lines, start=1) if line.startswith(f"{key}:")) for key in changes}
    assert typed.code == 2
    told = typed.err.removeprefix("secateur: ").splitlines()
    assert {line.partition(": ")[0].rpartition(":")[2] for line in told} == {str(line) for line in places.values()}
    assert len(told) == len(changes)


@pytest.mark.parametrize("command", [("sweep", "--dry-run"), ("baseline",)], ids=" ".join)
def test_what_is_checked_before_a_sweep_is_checked_before_these(
    secateur: Secateur, tmp_path: Path, command: tuple[str, ...]
) -> None:
    write_study(tmp_path, {"model": "resnet20_cifer"})
    message = "Did you mean 'study.yaml'"
    _check_refused(secateur(*command, "stydy.yaml", "--store", "store"), tmp_path, message)
    message = "unknown model 'resnet20_cifer'. Did you mean 'resnet20_cifar'"
    _check_refused(secateur(*command, "study.yaml", "--store", "store"), tmp_path, message)


def test_a_store_without_credentials(secateur: Secateur, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    typed = secateur("sweep", write_study(tmp_path), "--store", "s3://bucket")
    _check_refused(typed, tmp_path, "there are no credentials for the S3 store: set AWS_ACCESS_KEY_ID", code=1)


def test_a_prefect_server_that_is_not_there(
    secateur: Secateur, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    typed = secateur("sweep", write_study(tmp_path), "--store", "store")
    _check_refused(
        typed, tmp_path, "no Prefect server answers at http://127.0.0.1:9/api.*unset PREFECT_API_URL", code=1
    )


def test_a_folder_for_prefect_that_cannot_be_written(secateur: Secateur, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file, where a folder is expected")
    typed = secateur("sweep", write_study(tmp_path), "--store", "store")
    _check_refused(typed, tmp_path, "runs/.prefect: cannot be written: .* Check that path", code=1)


def test_no_study_to_cancel(secateur: Secateur, tmp_path: Path) -> None:
    from secateur.config import load_study
    from secateur.steps.open import open_study
    from secateur.store import StudyFiles, open_store

    open_study(StudyFiles(open_store("store"), "tiny"), load_study(write_study(tmp_path)))
    typed = secateur("cancel", "tiny", "--store", "store")
    assert typed.code == 1
    assert "no sweep of 'tiny' is running" in typed.err
