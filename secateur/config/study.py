"""The study: one YAML file that says what is searched, on what, and how long."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)

from secateur.config.champion import ChampionRule
from secateur.config.constraints import Constraint
from secateur.config.device import DeviceProfile, load_device
from secateur.config.fields import FilePath, Frozen, relative_to_file
from secateur.config.located import Located, Location, PartError, load_yaml, parse_yaml, validate
from secateur.config.metrics import METRICS
from secateur.config.parameters import Fixed, Parameter, Range
from secateur.errors import StudyError, did_you_mean


def _check_identifier(text: str) -> str:
    if not text.isidentifier():
        raise ValueError(f"a metric's name must be an identifier, got {text!r}")
    return text


def _check_python_reference(text: str) -> str:
    if not re.fullmatch(r"python:[\w.]+:\w+", text):
        raise ValueError(f"expected 'python:package.module:function', got {text!r}")
    return text


def _check_constraint(text: str) -> str:
    Constraint.parse(text)
    return text


MetricName = Annotated[str, AfterValidator(_check_identifier)]


class FromTest(Frozen):
    """Validation images are taken from the test part: for weights that have seen all training images."""

    from_: Literal["test"] = Field("test", alias="from")
    files: Literal["even", "odd"] = Field("even", description="File (or image) numbers that validate; the others test.")

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)


class Normalize(Frozen):
    """Per-channel mean and standard deviation of images scaled to [0, 1]."""

    mean: tuple[float, float, float]
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


def _kind_of_validation(value: Any) -> str:
    return "<from test>" if isinstance(value, dict | FromTest) else "<number>"


Validation = Annotated[
    Annotated[int, Field(ge=1), Tag("<number>")] | Annotated[FromTest, Tag("<from test>")],
    Discriminator(_kind_of_validation),
]


class Dataset(Frozen):
    """Images, and how they are split."""

    name: str = Field(description="digits, cifar10, cifar100, imagefolder:PATH, or python:package.module:function.")
    root: FilePath | None = Field(None, description="Where downloads are kept; by default ~/.cache/secateur.")
    validation: Validation | None = Field(
        None, description="Images carved from the training part, or {from: test, files: even}; by default a sixth."
    )
    normalize: Normalize | None = Field(None, description="By default the dataset's own.")
    num_classes: int | None = Field(None, ge=2, description="By default the dataset's own.")
    input_size: int | None = Field(None, ge=8, description="Height and width in pixels; by default the dataset's own.")
    skip_unreadable: bool = Field(
        False, description="Leave out files of an imagefolder that are no images, and say so."
    )
    max_memory_bytes: int | None = Field(
        None,
        ge=0,
        description="An imagefolder that takes more, decoded, is streamed from its files; by default half of all.",
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @field_validator("name")
    @classmethod
    def _resolve_folder(cls, name: str, info: ValidationInfo) -> str:
        kind, _, rest = name.partition(":")
        if kind == "imagefolder" and rest:
            return f"imagefolder:{relative_to_file(rest, info)}"
        return name


class Search(Frozen):
    """What is varied, and what for."""

    method: Literal["bayes", "random", "grid"] = "bayes"
    parameters: Annotated[dict[str, Parameter], Field(min_length=1)] = Field(
        description="'<entry>.<field>' of the compression schedule, or training.<field> -> what it may be."
    )
    objectives: Annotated[dict[MetricName, Literal["minimize", "maximize"]], Field(min_length=1)]
    constraints: tuple[Annotated[str, AfterValidator(_check_constraint)], ...] = ()
    seed: int = Field(0, ge=0)
    initial_trials: int | None = Field(
        None,
        ge=1,
        description="Trials before the model proposes any: the study's own point, then quasi-random ones; by default 2"
        " for each parameter that varies, at least 5.",
    )
    replicates: int | None = Field(
        None,
        ge=0,
        description="Trials of bayes that train an earlier one's network with another seed, to learn how far top1"
        " scatters; by default 4 where there are 32 trials or more. None without training.",
    )

    @model_validator(mode="after")
    def _something_varies(self) -> Search:
        if all(isinstance(parameter, Fixed) for parameter in self.parameters.values()):
            raise PartError(("parameters",), "nothing varies: give a parameter 'min' and 'max', 'values' or 'counts'.")
        return self

    @model_validator(mode="after")
    def _grid_is_finite(self) -> Search:
        if self.method == "grid":
            for name, parameter in self.parameters.items():
                if isinstance(parameter, Range) and parameter.step is None:
                    raise PartError(("parameters", name), f"grid search needs a 'step' (or 'values') for {name!r}.")
        return self

    @property
    def parsed_constraints(self) -> tuple[Constraint, ...]:
        """The constraints, parsed."""
        return tuple(Constraint.parse(text) for text in self.constraints)


class Training(Frozen):
    """How a network is trained: SGD with momentum."""

    epochs: int = Field(0, ge=0, description="0: pruned networks are measured as they are.")
    lr: float = Field(0.01, gt=0, description="Initial learning rate; of a curve the highest.")
    lr_curve: Literal["schedule", "cosine", "one_cycle", "step"] | None = Field(
        None,
        description="schedule: as the compression schedule says, constant if it says nothing; absent: schedule if it"
        " says something, else one_cycle.",
    )
    warmup_epochs: float = Field(0.0, ge=0, description="A curve's learning rate rises linearly for so long.")
    batch_size: int = Field(128, ge=1)
    accumulation: int = Field(1, ge=1, description="Parts a batch is divided into where memory is short.")
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(1e-4, ge=0)
    decay_vectors: bool = Field(True, description="Weight decay also acts on biases and batch normalisation.")
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    ema_decay: float = Field(0.0, ge=0, lt=1, description="Of a moving average of the weights, which counts then.")
    distillation: bool = Field(True, description="The unpruned network's logits are imitated.")
    distillation_weight: float = Field(0.7, gt=0, le=1, description="Share of the loss that distillation has.")
    temperature: float = Field(4.0, gt=0, description="Of distillation.")
    recalibration_images: int = Field(
        2560, ge=0, description="Batch normalisation's statistics of a pruned network are computed anew from so many."
    )
    augment: bool = Field(True, description="Random shift by up to 4 pixels, and flip where the dataset allows it.")
    cutout: int = Field(0, ge=0, description="Side in pixels of a black square in each training image.")
    precision: Literal["f32", "bf16", "f16"] | None = Field(None, description="By default the machine's fastest.")
    deterministic: bool = Field(False, description="Refuse what does not compute the same twice.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.warmup_epochs and self.lr_curve in ("schedule", None):
            raise PartError(("warmup_epochs",), "belongs to an lr_curve such as 'cosine'; a schedule has its own")
        if self.nesterov and not self.momentum:
            raise PartError(("nesterov",), "needs momentum")
        return self


class Baseline(Training):
    """How the unpruned network is trained, where no weights are given: no schedule acts, and there is no teacher."""

    epochs: int = Field(30, ge=0)
    lr: float = Field(0.1, gt=0, description="Initial learning rate; of a curve the highest.")
    lr_curve: Literal["schedule", "cosine", "one_cycle", "step"] = Field(
        "cosine", description="schedule: constant, since there is none."
    )
    distillation: Literal[False] = Field(False, description="There is no network to imitate.")


class Budget(Frozen):
    """How much is spent."""

    trials: int = Field(16, ge=1)
    hours: float | None = Field(None, gt=0, description="No further batch is started after so long.")
    parallel: int = Field(4, ge=1, description="Trials in a batch.")


def _kind_of_schedule(value: Any) -> str:
    return "<schedule>" if isinstance(value, dict) else "<file>"


ScheduleSource = Annotated[
    Annotated[FilePath, Tag("<file>")] | Annotated[dict[str, Any], Tag("<schedule>")], Discriminator(_kind_of_schedule)
]


class Study(Frozen):
    """One search, complete. `schedule` and `device` may stand in files of their own or here."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,99}$")]
    model: str = Field(description="resnet56_cifar, torchvision:NAME, timm:NAME, python:package.module:factory.")
    weights: FilePath | None = Field(None, description="safetensors, npz or pt; absent: the baseline flow trains them.")
    weights_have_seen: Literal["other data", "train", "train and validation"] | None = Field(
        None,
        description="train: the training part less what is carved for validation; absent: unknown, so that validation"
        " images are taken from the test part.",
    )
    dataset: Dataset
    schedule: ScheduleSource = Field(description="A Distiller compression schedule.")
    device: DeviceProfile = Field(
        default_factory=lambda: load_device("cpu"), description="A profile's name or file, or the profile itself."
    )
    search: Search
    training: Training = Training()
    baseline: Baseline = Baseline()
    budget: Budget = Budget()
    champion: ChampionRule = ChampionRule()
    gate: bool | None = Field(
        None,
        description="Measure candidates before they are trained, and do not train those that cannot win; absent: if"
        " 'secateur premise' found that training does not change latency.",
    )
    stop_early: bool = Field(True, description="End the training of candidates that cannot win any more.")
    skip_unprunable: bool = Field(False, description="Leave layers alone that cannot be thinned safely.")
    evaluation: Annotated[str, AfterValidator(_check_python_reference)] | None = Field(
        None, description="python:package.module:function, called as function(model, loader) -> {metric: number}."
    )

    @field_validator("device", mode="before")
    @classmethod
    def _load_device(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str | Path):
            is_file = str(value).endswith((".yaml", ".yml"))
            return load_device(str(relative_to_file(value, info)) if is_file else str(value))
        return value

    @model_validator(mode="after")
    def _metrics_exist(self) -> Study:
        if self.evaluation is None:
            places: dict[Location, str] = {("search", "objectives", name): name for name in self.search.objectives}
            for index, constraint in enumerate(self.search.parsed_constraints):
                places["search", "constraints", index] = constraint.metric
            for place, metric in places.items():
                if metric not in METRICS:
                    raise PartError(place, f"unknown metric {metric!r}.{did_you_mean(metric, METRICS)}")
        return self

    def to_yaml(self) -> str:
        """Write the study out, all defaults included; `parse_study` reads it back."""
        return yaml.safe_dump(self.model_dump(mode="json", by_alias=True), sort_keys=False)


def load_study(path: Path, overrides: Sequence[str] = ()) -> Study:
    """Read a study.

    Args:
        path: The YAML file; paths in it are relative to its folder.
        overrides: ``key=value`` each, dots between nested keys, values in YAML; paths are relative to here.

    Raises:
        StudyError: With every problem, each at its file and line.
    """
    return locate_study(path, overrides)[0]


def locate_study(path: Path, overrides: Sequence[str] = ()) -> tuple[Study, Located]:
    """Read a study, and where each of its values stands; see `load_study`."""
    document = load_yaml(path, StudyError)
    document.value.setdefault("name", path.stem)
    return complete_study(document, overrides, path.parent), document


def complete_study(document: Located, overrides: Sequence[str], base: Path) -> Study:
    """Make a study of a document, in which the overrides are then written down; paths are relative to `base`.

    Raises:
        StudyError: As `load_study`.
    """
    for override in overrides:
        _override(document, override)
    return validate(Study, document, StudyError, base=base)


def parse_study(text: str, source: str) -> Study:
    """Read a study as `Study.to_yaml` wrote it."""
    return validate(Study, parse_yaml(text, source, StudyError), StudyError)


def _split_parameter(document: Located, parts: tuple[str, ...]) -> tuple[str, ...]:
    """Return a parameter's name, and behind it the bound that is meant, if one is."""
    *name, field = parts
    search = document.value.get("search")
    known = search.get("parameters") if isinstance(search, dict) else None
    if isinstance(known, dict) and ".".join(name) in known:
        return ".".join(name), field
    return (".".join(parts),)


_PATH_FIELDS = {("weights",), ("schedule",), ("dataset", "root")}


def _override(document: Located, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise StudyError(f"--set {override}: expected key=value, such as --set training.epochs=2.")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as exc:
        raise StudyError(f"--set {override}: the value is not YAML: {getattr(exc, 'problem', exc)}.") from None
    parts = tuple(key.split("."))
    if parts[:2] == ("search", "parameters") and len(parts) > 2:  # a parameter's name has a dot of its own
        parts = ("search", "parameters", *_split_parameter(document, parts[2:]))
    if isinstance(value, str):
        is_file = parts == ("device",) and value.endswith((".yaml", ".yml"))
        if is_file or parts in _PATH_FIELDS or (parts[:2] == ("search", "parameters") and parts[-1] == "counts"):
            value = str(Path(value).expanduser().absolute())
        elif parts in {("dataset",), ("dataset", "name")} and value.startswith("imagefolder:"):
            value = f"imagefolder:{Path(value.removeprefix('imagefolder:')).expanduser().absolute()}"
    target = document.value
    for depth, part in enumerate(parts[:-1]):
        if parts[: depth + 1] == ("dataset",) and isinstance(target.get(part), str):
            target[part] = {"name": target[part]}
        document.places.setdefault(parts[: depth + 1], f"--set {override}")
        target = target.setdefault(part, {})
        if not isinstance(target, dict):
            raise StudyError(f"--set {override}: {'.'.join(parts[: depth + 1])!r} holds a value, not keys.")
    target[parts[-1]] = value
    for place in [place for place in document.places if place[: len(parts)] == parts]:
        del document.places[place]  # what stood below is gone
    document.places[parts] = f"--set {override}"
