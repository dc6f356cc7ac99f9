from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from secateur.errors import InputError, NotFoundError, StoreError
from secateur.results import OFF_THE_SHELF, UNPRUNED, EpochResult, Failure, TrialRecord
from secateur.store import Store
from secateur.store.directory import DirectoryStore
from secateur.store.study_files import StudyFiles, list_studies
from tests.factories import make_compressed, make_record, make_results
from tests.fakes import FailingStore, MemoryStore

NAME = "resnet20-cifar10"


@pytest.fixture(params=["directory", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return DirectoryStore(tmp_path) if request.param == "directory" else MemoryStore()


@pytest.fixture
def files(store: Store) -> StudyFiles:
    return StudyFiles(store, NAME)


def write_all(files: StudyFiles) -> None:
    results = make_results()
    for record in (*results.trials, *results.baselines.values()):
        files.write_record(record)
    files.write_study_yaml(yaml.safe_dump(results.study))
    files.write_optimiser({"state": 1})
    files.write_control("pause")
    files.write_report({"report.html": b"<html>"})


def test_what_is_written_is_read_back(files: StudyFiles) -> None:
    assert not files.exists()
    write_all(files)
    results = make_results()
    assert files.exists()
    assert files.results() == results
    assert [record.index for record in files.trials()] == sorted(record.index for record in results.trials)
    assert files.baselines() == results.baselines
    assert files.read_record(UNPRUNED) == results.baselines[UNPRUNED]
    assert files.read_optimiser() == {"state": 1}
    assert files.read_control() == "pause"
    assert files.store.get(f"studies/{NAME}/report/report.html") == b"<html>"
    files.write_report({"report.md": b"#"})
    assert files.read_report() == {"report.md": b"#"}, "a new report takes the place of the old one"


def test_layout(files: StudyFiles) -> None:
    files.write_record(make_record(0))
    files.write_record(make_record(10))
    files.write_record(make_record(OFF_THE_SHELF))
    files.write_study_yaml("name: x")
    files.write_optimiser({})
    files.write_control("run")
    files.write_report({"index.html": b""})
    paths = ["ax.json", "baselines/off_the_shelf.json", "control.json", "report/index.html", "study.yaml"]
    paths += ["trials/0.json", "trials/10.json"]
    assert files.store.list("") == [f"studies/{NAME}/{path}" for path in paths]


def test_an_empty_study(files: StudyFiles) -> None:
    assert files.trials() == ()
    assert files.baselines() == {}
    assert files.read_optimiser() is None
    assert files.read_control() == "run"
    for read in (files.read_study_yaml, files.results, lambda: files.read_record("3")):
        with pytest.raises(NotFoundError, match=f"studies/{NAME}/"):
            read()


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    index=st.integers(0, 10**6),
    parameters=st.dictionaries(texts, st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts),
    message=texts,
    loss=st.floats(),
)
def test_any_record_survives(index: int, parameters: dict[str, int | float | str], message: str, loss: float) -> None:
    files = StudyFiles(MemoryStore(), NAME)
    epoch = EpochResult(epoch=0, lr=0.1, training_loss=loss, top1=10.0, top5=50.0, loss=loss, duration_s=1.0)
    record = make_record(
        index,
        parameters=parameters,
        failure=Failure(phase="train", type="StoreError", message=message),
        compressed=make_compressed().model_copy(update={"epochs": (epoch,)}),
    )
    files.write_record(record)
    (found,) = files.trials()
    assert found.model_dump_json() == record.model_dump_json()
    assert found.compressed is not None
    assert found.compressed.epochs[0].loss == loss or math.isnan(loss)
    assert found.parameters == record.parameters


def test_trials_are_in_numerical_order_whatever_else_lies_there(files: StudyFiles) -> None:
    for index in (10, 9, 100, 0):
        files.write_record(make_record(index))
    files.store.put(f"studies/{NAME}/trials/1.json~", b"an editor's")
    files.store.put(f"studies/{NAME}/trials/01.json", b"another's")
    assert [record.index for record in files.trials()] == [0, 9, 10, 100]


@pytest.mark.parametrize("label", ["", "-1", "01", "x", "baseline", "../1", "\uff11", "1.0"], ids=ascii)
def test_labels_are_checked(files: StudyFiles, label: str) -> None:
    with pytest.raises(InputError, match="expected a trial's index or one of unpruned, off_the_shelf, got"):
        files.read_record(label)
    with pytest.raises(InputError, match="expected a trial's index"):
        files.write_record(make_record(0).model_copy(update={"label": label}))


@pytest.mark.parametrize("name", ["", "A", "a/b", "..", ".hidden", "a" * 101, "ä"], ids=ascii)
def test_names_are_checked(store: Store, name: str) -> None:
    with pytest.raises(InputError, match=r"study name: expected up to 100 of a-z.* got "):
        StudyFiles(store, name)


def _with(**changes: object) -> bytes:
    return json.dumps(make_record(0).model_dump(mode="json") | changes).encode()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"{", "Invalid JSON: EOF"),
        (b"[]", "Input should be an object"),
        (_with(seed="x"), "seed: Input should be a valid integer"),
        (_with(schema_version=2), "schema_version: Input should be 1"),
        (_with(label="1"), "it belongs to label '1' of study 'resnet20-cifar10'"),
        (_with(study="other"), "it belongs to label '0' of study 'other'"),
    ],
    ids=["broken", "list", "type", "version", "label", "study"],
)
def test_broken_records(files: StudyFiles, data: bytes, problem: str) -> None:
    files.store.put(f"studies/{NAME}/trials/0.json", data)
    for read in (files.trials, lambda: files.read_record("0")):
        with pytest.raises(StoreError, match=f"'studies/{NAME}/trials/0.json' is not the record .*{problem}.* Restore"):
            read()


@pytest.mark.parametrize(
    ("data", "problem"),
    [(b"a: [", "is not YAML"), (b"- a", "holds no mapping, but"), (b"\xff", "is not UTF-8")],
    ids=["broken", "list", "binary"],
)
def test_broken_study(files: StudyFiles, data: bytes, problem: str) -> None:
    files.store.put(f"studies/{NAME}/study.yaml", data)
    with pytest.raises(StoreError, match=f"'studies/{NAME}/study.yaml' {problem}"):
        files.results()


def test_broken_control(files: StudyFiles) -> None:
    files.store.put(f"studies/{NAME}/control.json", b'{"action": "stop"}')
    with pytest.raises(StoreError, match=r"'action' must be one of run, pause, cancel, got 'stop'\. Delete it"):
        files.read_control()


def test_remove_leaves_objects_caches_other_studies_and_the_lease(files: StudyFiles) -> None:
    write_all(files)
    others = ["cache/a", "objects/a", "studies/resnet20-cifar10-b/study.yaml", f"studies/{NAME}/lease.json"]
    for key in others:
        files.store.put(key, b"")
    files.remove()
    assert files.store.list("") == sorted(others)
    assert not files.exists()
    files.remove()


@pytest.mark.parametrize("at", range(1, 5))
def test_a_study_half_removed_still_exists(at: int) -> None:
    files = StudyFiles(FailingStore(MemoryStore(), method="delete", at=at, error=StoreError("no")), NAME)
    files.write_study_yaml("")
    files.write_optimiser({})
    files.write_record(make_record(0))
    files.write_record(make_record(UNPRUNED))
    with pytest.raises(StoreError, match="no"):
        files.remove()
    assert files.exists()
    files.remove()
    assert files.store.list("") == []


def test_list_studies(store: Store) -> None:
    assert list_studies(store) == []
    for name in ("b", "a.1"):
        StudyFiles(store, name).write_study_yaml("")
    StudyFiles(store, "c").write_control("run")
    assert list_studies(store) == ["a.1", "b"]


def test_records_are_read_side_by_side(s3_store: Store) -> None:
    files = StudyFiles(s3_store, NAME)
    write_all(files)
    assert files.results() == make_results()
    assert isinstance(files.trials()[0], TrialRecord)
