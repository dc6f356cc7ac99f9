from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from secateur import resources
from secateur.config import Choice, FromTest, Range, Study, load_device, load_study, parse_study
from secateur.errors import StudyError

TEXT = """\
model: resnet20_cifar
dataset: {name: cifar10, validation: 5000}
schedule: s.yaml
search:
  parameters:
    pruner.desired_sparsity: {min: 0, max: 0.9}
  objectives: {latency_ratio: minimize}
"""
FIELDS: dict[str, Any] = yaml.safe_load(TEXT) | {"name": "study"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "my-study.yaml"
    file.write_text(TEXT)
    return file


def problems_of(path: Path, text: str | None = None, *overrides: str) -> list[str]:
    """Return the problems of a study, without the folder."""
    if text is not None:
        path.write_text(text)
    with pytest.raises(StudyError) as caught:
        load_study(path, overrides)
    return [problem.replace(f"{path.parent}/", "") for problem in str(caught.value).splitlines()]


def test_defaults_do_the_rest(path: Path) -> None:
    study = load_study(path)
    assert study.name == "my-study"
    assert study.schedule == path.with_name("s.yaml")
    assert study.device == load_device("cpu")
    assert study.search.parameters == {"pruner.desired_sparsity": Range(min=0, max=0.9)}
    assert (study.training.epochs, study.baseline.epochs, study.budget.trials) == (0, 30, 16)


def test_paths_are_relative_to_the_file(path: Path) -> None:
    path.write_text(
        TEXT.replace("cifar10, validation: 5000", "'imagefolder:images', root: ../data") + "weights: w.npz\n"
    )
    study, folder = load_study(path), path.parent
    assert study.weights == folder / "w.npz"
    assert study.dataset.root == folder / ".." / "data"
    assert study.dataset.name == f"imagefolder:{folder / 'images'}"


def test_home_and_absolute_paths_stay(path: Path) -> None:
    path.write_text(TEXT.replace("s.yaml", "/elsewhere/s.yaml") + "weights: ~/w.npz\n")
    study = load_study(path)
    assert study.schedule == Path("/elsewhere/s.yaml")
    assert study.weights == Path.home() / "w.npz"


def test_a_device_may_be_a_name_a_file_or_written_out(path: Path) -> None:
    path.with_name("slow.yaml").write_text("num_threads: 1\n")
    path.write_text(TEXT + "device: slow.yaml\n")
    assert (load_study(path).device.name, load_study(path).device.num_threads) == ("slow", 1)
    path.write_text(TEXT + "device: cpu-f32-1thread\n")
    assert load_study(path).device.precision == "f32"
    path.write_text(TEXT + "device: {name: mine, precision: bf16}\n")
    assert load_study(path).device.name == "mine"


@pytest.mark.parametrize("shipped", sorted(resources.find("schedules/studies").glob("*.yaml")), ids=lambda p: p.stem)
def test_shipped_studies_are_right(shipped: Path) -> None:
    assert load_study(shipped).name == shipped.stem


# --- problems, each with its line and the nearest name


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("traning: {}", "my-study.yaml:8: unknown key 'traning'. Did you mean 'training'?"),
        ("training: {epoch: 2}", "my-study.yaml:8: unknown key 'training.epoch'. Did you mean 'epochs'?"),
        ("device: {treads: 2}", "my-study.yaml:8: unknown key 'device.treads'. Did you mean 'num_threads'?"),
        ("budget:\n  trials: 3\n  hour: 2", "my-study.yaml:10: unknown key 'budget.hour'. Did you mean 'hours'?"),
        ("budget: {trials: 0}", "'budget.trials': Input should be greater than or equal to 1, got 0."),
        ("training: {lr: 0}", "'training.lr': Input should be greater than 0, got 0."),
        ("training: {lr: .inf}", "'training.lr': Input should be a finite number, got inf."),
        ("training: {momentum: 1}", "'training.momentum': Input should be less than 1, got 1."),
        ("training: {epochs: many}", "'training.epochs': Input should be a valid integer"),
        ("budget: 5", "'budget': Input should be a valid dictionary"),
        ("name: My Study", "'name': String should match pattern"),
        ("evaluation: my.module:f", "'evaluation': expected 'python:package.module:function', got 'my.module:f'."),
        ("device: cpuu", "my-study.yaml:8: device: there is no profile 'cpuu'. Did you mean 'cpu'? Name one of cpu,"),
        ("device: d.yaml", "my-study.yaml:8: d.yaml: there is no such file."),
        ("device: 5", "'device': Input should be a valid dictionary"),
        ("device: {precision: int8}", "'device.precision': Input should be 'f32', 'bf16' or 'f16', got 'int8'."),
        ("weights: [a]", "'weights': Input is not a valid path"),
        ("1: 2", "'1': Keys should be strings, got 1."),
    ],
    ids=lambda value: value.partition("\n")[0] if ":" in value else "",
)
def test_a_wrong_line_is_named(path: Path, line: str, problem: str) -> None:
    (found,) = problems_of(path, f"{TEXT}{line}\n")
    assert found.startswith("my-study.yaml:")
    assert problem in found


@pytest.mark.parametrize(
    ("dataset", "problem"),
    [
        ("{name: x, valid: 3}", "unknown key 'dataset.valid'. Did you mean 'validation'?"),
        ("{validation: 3}", "'dataset.name' is missing."),
        ("{name: x, validation: 0}", "'dataset.validation': Input should be greater than or equal to 1, got 0."),
        ("{name: x, validation: {frum: test}}", "unknown key 'dataset.validation.frum'. Did you mean 'from'?"),
        ("{name: x, validation: {from: train}}", "'dataset.validation.from': Input should be 'test', got 'train'."),
        ("{name: x, normalize: {mean: [0, 0], std: [1, 1, 1]}}", "'dataset.normalize.mean.2' is missing."),
        ("{name: x, normalize: {mean: [0, 0, 0], std: [1, 0, 1]}}", "'dataset.normalize.std.1': Input should be great"),
        ("{name: x, num_classes: 1}", "'dataset.num_classes': Input should be greater than or equal to 2, got 1."),
        ("{name: x, input_size: 7}", "'dataset.input_size': Input should be greater than or equal to 8, got 7."),
        ("[x]", "'dataset': Input should be a valid dictionary"),
    ],
)
def test_a_wrong_dataset_is_named(path: Path, dataset: str, problem: str) -> None:
    (found,) = problems_of(path, TEXT.replace("{name: cifar10, validation: 5000}", dataset))
    assert found.startswith("my-study.yaml:2: ")
    assert problem in found


@pytest.mark.parametrize(
    ("bounds", "problem"),
    [
        (
            "{min: 0.5, max: 0.5}",
            "'search.parameters.pruner.desired_sparsity': min must be below max, got 0.5 and 0.5.",
        ),
        ("{min: 0}", "'search.parameters.pruner.desired_sparsity.max' is missing."),
        ("{min: 0, max: .nan}", "'search.parameters.pruner.desired_sparsity.max': expected a number, got nan."),
        ("{min: 0, max: x}", "'search.parameters.pruner.desired_sparsity.max': expected a number, got 'x'."),
        ("{min: 0, max: true}", "'search.parameters.pruner.desired_sparsity.max': expected a number, got True."),
        ("{min: 0, max: 1, step: 0}", "desired_sparsity.step': Input should be greater than 0, got 0."),
        (
            "{min: 0, max: 1, stp: 1}",
            "unknown key 'search.parameters.pruner.desired_sparsity.stp'. Did you mean 'step'?",
        ),
        ("{values: [1]}", "desired_sparsity.values': Tuple should have at least 2 items"),
        ("{values: [1, 2, [3]]}", "desired_sparsity.values.2': expected a number, got [3]."),
        ("0.5", "'search.parameters.pruner.desired_sparsity': Input should be a valid dictionary or instance of Range"),
    ],
)
def test_a_wrong_parameter_is_named(path: Path, bounds: str, problem: str) -> None:
    (found,) = problems_of(path, TEXT.replace("{min: 0, max: 0.9}", bounds))
    assert found.startswith("my-study.yaml:6: ")
    assert problem in found


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("objectives: {latency: minimize}", "7: unknown metric 'latency'. Did you mean 'latency_ms'?"),
        (
            "objectives: {top1: more}",
            "7: 'search.objectives.top1': Input should be 'minimize' or 'maximize', got 'more'.",
        ),
        (
            "objectives: {top-1: maximize}",
            "7: 'search.objectives.top-1': a metric's name must be an identifier, got 'top-1'",
        ),
        ("objectives: {}", "7: 'search.objectives': Dictionary should have at least 1 item"),
        ("objectives: {top1: maximize}\n  constraints: [top2 >= 1]", "8: unknown metric 'top2'. Did you mean 'top"),
        (
            "objectives: {top1: maximize}\n  constraints:\n  - top1 >= 1\n  - top1 > 1",
            "10: 'search.constraints.1': exp",
        ),
        ("objectives: {top1: maximize}\n  method: grid", "6: grid search needs a 'step' (or 'values') for 'pruner.des"),
        (
            "objectives: {top1: maximize}\n  method: bayesian",
            "8: 'search.method': Input should be 'bayes', 'random' or",
        ),
        ("objectives: {top1: maximize}\n  seed: -1", "8: 'search.seed': Input should be greater than or equal to 0"),
    ],
    ids=lambda value: value.partition("\n")[0],
)
def test_a_wrong_search_is_named(path: Path, line: str, problem: str) -> None:
    (found,) = problems_of(path, TEXT.replace("objectives: {latency_ratio: minimize}", line))
    assert problem in found


def test_all_problems_are_told_at_once(path: Path) -> None:
    found = problems_of(path, "model: 3\ntrainings: {}\n")
    assert found == [
        "my-study.yaml:1: 'model': Input should be a valid string, got 3.",
        "my-study.yaml:1: 'dataset' is missing.",
        "my-study.yaml:1: 'schedule' is missing.",
        "my-study.yaml:1: 'search' is missing.",
        "my-study.yaml:2: unknown key 'trainings'. Did you mean 'training'?",
    ]


def test_metrics_of_the_users_own_are_known_to_their_evaluation(path: Path) -> None:
    path.write_text(TEXT.replace("latency_ratio", "recall") + "evaluation: python:mine:evaluate\n")
    assert load_study(path).search.objectives == {"recall": "minimize"}


# --- files


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("model: [\n", "my-study.yaml:2: this is not YAML: expected the node content"),
        ("a: b: c\n", "my-study.yaml:1: this is not YAML: mapping values are not allowed here"),
        ("- a\n", "my-study.yaml: expected a mapping of keys to values, got list."),
        ("", "my-study.yaml: expected a mapping of keys to values, got NoneType."),
        ("a: !!python/object/apply:os.system [ls]\n", "1: this is not YAML: could not determine a constructor"),
        ("a: 2020-13-45\n", "my-study.yaml: this is not YAML: month must be in 1..12."),
        ("a: &a [*a]\n", "my-study.yaml: this is not YAML anyone means: it is nested too deeply."),
        ("[" * 3000, "my-study.yaml: this is not YAML anyone means: it is nested too deeply."),
        ("{[1]: 2}", "my-study.yaml:1: this is not YAML: found unhashable key."),
        ("\x00", "my-study.yaml: this is not YAML"),
    ],
    ids=lambda value: value[:12],
)
def test_what_is_no_study_is_refused(path: Path, text: str, problem: str) -> None:
    assert problem in problems_of(path, text)[0]


def test_a_missing_file_is_refused_with_the_nearest_name(path: Path) -> None:
    with pytest.raises(StudyError, match=r"my-studdy.yaml: there is no such file. Did you mean '.*my-study.yaml'"):
        load_study(path.with_name("my-studdy.yaml"))
    with pytest.raises(StudyError, match="there is no such file"):
        load_study(path.parent / "nowhere" / "x.yaml")


def test_an_unreadable_file_is_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(StudyError, match="cannot be read: 'utf-8' codec"):
        load_study(path)
    with pytest.raises(StudyError, match=r"cannot be read: .*Is a directory"):
        load_study(path.parent)


# --- overrides


def test_overrides_reach_every_depth(path: Path) -> None:
    study = load_study(
        path,
        [
            "training.epochs=2",
            "search.objectives.top1=maximize",
            "search.parameters.other.desired_sparsity={min: 0, max: 0.5}",
            "search.parameters.pruner.desired_sparsity.max=0.7",
            "dataset.validation={from: test, files: odd}",
            "name=other",
            "baseline={epochs: 3}",
        ],
    )
    assert study.training.epochs == 2
    assert dict(study.search.objectives) == {"latency_ratio": "minimize", "top1": "maximize"}
    assert study.search.parameters == {
        "pruner.desired_sparsity": Range(min=0, max=0.7),
        "other.desired_sparsity": Range(min=0, max=0.5),
    }
    assert study.dataset.validation == FromTest(files="odd")
    assert (study.name, study.baseline.epochs) == ("other", 3)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["training.warmup_epochs=2"], "training.warmup_epochs.*belongs to an lr_curve such as 'cosine'"),
        (["training.nesterov=true", "training.momentum=0"], "training.nesterov.*needs momentum"),
        (["training.lr_curve=linear"], "training.lr_curve.*'one_cycle'"),
        (["baseline.distillation=true"], "baseline.distillation"),
    ],
)
def test_training_options_fit_together(path: Path, overrides: list[str], problem: str) -> None:
    with pytest.raises(StudyError, match=problem):
        load_study(path, overrides)


def test_the_unpruned_network_is_trained_with_half_a_cosine(path: Path) -> None:
    assert load_study(path, ["baseline={epochs: 3}"]).baseline.lr_curve == "cosine"
    training = load_study(path, ["training={epochs: 3}"]).training
    assert (training.lr_curve, training.lr, training.distillation) == (None, 0.01, True)


def test_a_datasets_short_form_may_be_extended(path: Path) -> None:
    path.write_text(TEXT.replace("{name: cifar10, validation: 5000}", "cifar10"))
    dataset = load_study(path, ["dataset.validation=100"]).dataset
    assert (dataset.name, dataset.validation) == ("cifar10", 100)
    assert load_study(path, ["dataset=digits"]).dataset.name == "digits"


def test_all_parameters_can_be_replaced_at_once(path: Path) -> None:
    study = load_study(path, ["search.parameters={p.q: {min: 0.1, max: 0.2}}"])
    assert list(study.search.parameters) == ["p.q"]


def test_paths_in_overrides_are_relative_to_here(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "d.yaml").write_text("device: GPU\n")
    study = load_study(path, ["weights=w.npz", "schedule=x.yaml", "dataset.root=data", "device=d.yaml"])
    assert (study.weights, study.schedule, study.dataset.root) == (here / "w.npz", here / "x.yaml", here / "data")
    assert study.device.device == "GPU"
    for override in ("dataset=imagefolder:images", "dataset.name=imagefolder:images"):
        assert load_study(path, [override]).dataset.name == f"imagefolder:{here / 'images'}"


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("training.epochs", "--set training.epochs: expected key=value, such as --set training.epochs=2."),
        ("=3", "--set =3: expected key=value"),
        ("training.epochs=[", "--set training.epochs=[: the value is not YAML: expected the node content"),
        ("name=2020-13-45", "--set name=2020-13-45: the value is not YAML: month must be"),
        ("model.depth=3", "--set model.depth=3: 'model' holds a value, not keys."),
        (
            "training.epochs=-1",
            "--set training.epochs=-1: 'training.epochs': Input should be greater than or equal to 0",
        ),
        ("trainig.epochs=1", "--set trainig.epochs=1: unknown key 'trainig'. Did you mean 'training'?"),
        ("dataset={name: x, validation: 0}", "--set dataset={name: x, validation: 0}: 'dataset.validation': Input"),
        ("search.parameters.p.q.min=1", "--set search.parameters.p.q.min=1: 'search.parameters.p.q.min': Input should"),
        ("search.constraints=[x]", "--set search.constraints=[x]: 'search.constraints.0': expected 'metric >= number'"),
        ("device=tpu", "--set device=tpu: device: there is no profile 'tpu'."),
    ],
)
def test_a_wrong_override_is_named(path: Path, override: str, problem: str) -> None:
    (found,) = problems_of(path, None, override)
    assert found.startswith(problem)


# --- writing it down

SCALARS = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text()
RANGES = st.tuples(st.floats(-1e6, 0, exclude_max=True), st.integers(0, 100), st.none() | st.floats(1e-3, 1)).map(
    lambda bounds: Range(min=bounds[0], max=bounds[1], step=bounds[2])
)
CHOICES = st.lists(st.integers() | st.floats(-9, 9) | st.text(max_size=5), min_size=2, max_size=4).map(
    lambda values: Choice(values=tuple(values))
)
STUDIES = st.fixed_dictionaries(
    {name: st.just(value) for name, value in FIELDS.items() if name not in {"schedule", "dataset", "search"}}
    | {
        "schedule": st.dictionaries(st.text(max_size=5), SCALARS, max_size=3) | st.just("/s.yaml"),
        "dataset": st.just("digits")
        | st.fixed_dictionaries({"name": st.just("x"), "validation": st.just({"from": "test"}) | st.integers(1, 99)}),
        "search": st.fixed_dictionaries(
            {
                "parameters": st.dictionaries(
                    st.text(min_size=1, max_size=8), RANGES | CHOICES, min_size=1, max_size=3
                ),
                "objectives": st.just({"top1": "maximize", "latency_ratio": "minimize"}),
                "constraints": st.just(["top1 >= baseline - 1.0"]),
                "seed": st.integers(0, 2**40),
            }
        ),
    },
    optional={
        "weights": st.just("/w.npz"),
        "device": st.sampled_from(["cpu", "cpu-f32-1thread"]) | st.just({"name": "mine", "target_half_width": 0.1}),
        "training": st.fixed_dictionaries({"epochs": st.integers(0, 500), "lr": st.floats(1e-6, 10)}),
        "budget": st.fixed_dictionaries({"hours": st.none() | st.floats(0.01, 99)}),
        "evaluation": st.just("python:a.b:c"),
    },
)


@given(STUDIES)
def test_a_study_written_out_is_read_back(fields: dict[str, Any]) -> None:
    study = Study.model_validate(fields)
    assert parse_study(study.to_yaml(), "here") == study


def test_what_is_written_out_holds_all_defaults() -> None:
    written = yaml.safe_load(Study.model_validate(FIELDS).to_yaml())
    assert set(written) == set(Study.model_fields)
    assert written["device"]["timeout_s"] == load_device("cpu").timeout_s


def test_a_damaged_copy_is_refused_with_its_place() -> None:
    with pytest.raises(StudyError, match=r"study 'x' in runs/.store:1: 'model' is missing"):
        parse_study("name: x\n", "study 'x' in runs/.store")


@given(st.floats())
def test_no_bound_but_a_number(bound: float) -> None:
    fields = {**FIELDS, "search": {**FIELDS["search"], "parameters": {"a.b": {"min": 0, "max": bound}}}}
    if math.isfinite(bound) and bound > 0:
        assert Study.model_validate(fields).search.parameters["a.b"] == Range(min=0, max=bound)
    else:
        with pytest.raises(ValueError, match=r"min must be below max|expected a number"):
            Study.model_validate(fields)
