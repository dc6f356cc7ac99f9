"""From a study and a point of its search space to a network on the shelf: prune, thin, retrain, export, store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from secateur.admissibility import schedule_of
from secateur.block_importance import BlockImportance
from secateur.config import ParameterValue, Study, Training
from secateur.datasets import Images, Splits, data_identity, shared_splits
from secateur.errors import NotFoundError
from secateur.export import architecture_signature, export_onnx
from secateur.identity import digest_of, digest_of_state, digest_of_tensor, what_acts_later
from secateur.models import create_model, load_weights
from secateur.parameters import most_epochs, of_schedule, training_with
from secateur.pruning import ScheduleEngine
from secateur.results import Compressed, EpochResult, KeptFilters, Scores, TestScores
from secateur.retraining import (
    GoesOn,
    Pruned,
    always,
    before_training,
    checkpoint_path,
    clear_old_checkpoints,
    epochs_of,
    scores_of,
    with_own_metrics,
)
from secateur.schedule import Schedule
from secateur.stopwatch import Stopwatch
from secateur.store import Store, get_json, get_object, put_json, put_object
from secateur.thinning import (
    Network,
    channel_spaces,
    count_macs,
    count_params,
    num_filters,
    rebuild,
    save_network,
    unpruned,
)
from secateur.training import (
    Callbacks,
    Device,
    NoCallbacks,
    TrainingResult,
    TrainingSettings,
    evaluate,
    fastest_precision,
    recalibrate_bn,
    train,
)

_TRACING = threading.Lock()
"""Channel spaces are traced once, by the first candidate; the others wait for them."""

_DRAWING = ("Dropout", "AlphaDropout", "FeatureAlphaDropout", "StochasticDepth", "DropPath", "DropBlock")
"""How the names of layers begin, torch's, torchvision's and timm's, that draw at random."""

_ANY_NUM_CLASSES = 10
"""To look at a network's layers takes no images."""

_IDENTITY_VERSION = 3
"""Part of every cache key: raised when the same inputs come to give other networks."""


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """All that candidates of one study are made with."""

    study: Study
    store: Store
    gate: Callable[[bytes], None] = lambda content: None  # noqa: ARG005
    """Raises an ExportError at an ONNX file that is of no use."""
    training_seed: int | None = None
    """By default the study's."""

    def for_trial(self, parameters: Mapping[str, ParameterValue], seed: int) -> Workshop:
        """Return the workshop in which one trial is made: with its own training settings, and seed of training."""
        training = training_with(self.study.training, parameters)
        return replace(self, study=self.study.model_copy(update={"training": training}), training_seed=seed)

    @cached_property
    def splits(self) -> Splits:
        """The images."""
        return shared_splits(self.study.dataset)

    @cached_property
    def schedule(self) -> Schedule:
        """The base schedule."""
        return schedule_of(self.study)

    @property
    def device(self) -> Device:
        """Where networks are trained."""
        return "cuda" if torch.cuda.is_available() else "cpu"

    @cached_property
    def draws(self) -> bool:
        """Whether candidates are trained, and have layers that draw at random then (dropout, stochastic depth).

        On the CPU all threads of a process draw from one generator.
        """
        if most_epochs(self.study) == 0:
            return False
        with torch.random.fork_rng(devices=[]):
            module = create_model(self.study.model, _ANY_NUM_CLASSES)
        drawing = [part for part in module.modules() if type(part).__name__.startswith(_DRAWING)]
        return any(getattr(part, "p", 1.0) for part in drawing)

    @property
    def example_NCHW(self) -> Tensor:
        """One input of the size the networks take."""
        return torch.zeros(1, 3, self.splits.input_size, self.splits.input_size)

    def make_unpruned(self) -> tuple[Compressed, bool]:
        """Import or train the unpruned network.

        Returns:
            The network, and whether an earlier, equal one was taken.

        Raises:
            ModelError: The model is unknown, or its weights do not fit.
            DatasetError: The dataset is not there.
            TrainingError: Training diverged.
        """
        study, watch = self.study, Stopwatch()
        torch.manual_seed(study.search.seed)
        module = create_model(study.model, self.splits.num_classes)
        if study.weights is not None:
            load_weights(module, study.weights)
        origin = digest_of_state(module)
        training = None if study.weights is not None else study.baseline
        identity = self._identity(origin, None if training is None else self.settings(training), {})
        if (earlier := self.earlier(identity)) is not None:
            return earlier, True
        network = unpruned(module, study.model, self.splits.num_classes)
        if training is None:
            with watch.phase("evaluate"):
                validation = self._evaluate(module, self.splits.validation)
            return self._finish(network, identity, (), validation, watch), False
        with watch.phase("train"):
            result = self._train(module, training, NoCallbacks(), identity)
        return self._finish(network, identity, epochs_of(result), scores_of(result.validation), watch), False

    def make_candidate(
        self, unpruned_key: str, parameters: Mapping[str, ParameterValue], goes_on: GoesOn = always
    ) -> tuple[Compressed, bool]:
        """Prune the unpruned network as `parameters` say, retrain and export it.

        Args:
            unpruned_key: Artifact key of the unpruned network's checkpoint.
            parameters: Values of fields of the schedule; empty: the schedule as it stands, "off the shelf". Settings
                of training among them are those of `for_trial`.
            goes_on: Whether there is to be another epoch. If training ends early, its state stays on this host.

        Returns:
            The network, and whether an earlier, equal one was taken.

        Raises:
            ThinningError: What the schedule prunes cannot be removed.
            TrainingError: Retraining diverged.
            ExportError: The ONNX file computes something else.
        """
        pruned = self.prune(unpruned_key, parameters)
        if (earlier := self.earlier(pruned.identity)) is not None:
            return earlier, True
        retrain = (lambda: self._retrain(pruned, goes_on)) if self.study.training.epochs else None
        return self.complete(pruned, retrain), False

    def untrained(self, pruned: Pruned) -> Compressed:
        """Export a pruned candidate as it is."""
        return self.earlier(pruned.untrained_identity) or self.complete(pruned, None)

    def prune(self, unpruned_key: str, parameters: Mapping[str, ParameterValue]) -> Pruned:
        """Make a candidate up to where its retraining begins; see `make_candidate`."""
        training, watch, schedule = (
            self.study.training,
            Stopwatch(),
            self.schedule.with_parameters(of_schedule(parameters)),
        )
        with watch.phase("prune"), _TRACING:
            dense = rebuild(get_object(self.store, unpruned_key))
            engine = ScheduleEngine(
                dense.module,
                schedule,
                self.example_NCHW,
                base_lr=training.lr,
                num_epochs=training.epochs,
                spaces=channel_spaces(self.study.model, dense.num_classes, self.splits.input_size),
                seed=self.study.search.seed,
                skip_unprunable=self.study.skip_unprunable,
                block_importance=BlockImportance(
                    unpruned_key=unpruned_key, splits=self.splits, store=self.store, device=self.device
                ),
            )
            engine.prune_before_training()
        masks = {name: digest_of_tensor(mask) for name, mask in engine.masks.items()}
        pruning = {
            "kept": engine.kept,
            "masked": masks,
            "later": what_acts_later(schedule, training.epochs),
            "recalibration_images": training.recalibration_images,
        }
        return Pruned(
            identity=self._identity(unpruned_key, self.settings(training) if training.epochs else None, pruning),
            untrained_identity=self._identity(unpruned_key, None, {**pruning, "later": what_acts_later(schedule, 0)}),
            unpruned=unpruned_key,
            arch=dense.arch,
            num_classes=dense.num_classes,
            is_changed=bool(masks) or engine.kept != dense.kept,
            engine=engine,
            watch=watch,
        )

    def is_recalibrated(self, pruned: Pruned) -> bool:
        """Tell whether batch normalisation's statistics are computed anew before retraining."""
        return pruned.is_changed and self.study.training.recalibration_images > 0

    def recalibrate(self, pruned: Pruned) -> None:
        """Compute them."""
        splits, num_images = self.splits, self.study.training.recalibration_images
        recalibrate_bn(pruned.module, splits.train, splits.normalize, num_images=num_images, device=self.device)

    def complete(self, pruned: Pruned, retrain: Callable[[], TrainingResult] | None) -> Compressed:
        """Evaluate a pruned candidate, let `retrain`, if it is given, train its module, then export and store it."""
        before, validation, top1_before_recalibration = self._begin(pruned)
        identity, is_stopped = pruned.untrained_identity, False
        epochs: tuple[EpochResult, ...] = (before,)
        if retrain is not None:
            with pruned.watch.phase("train"):
                result = retrain()
            identity, epochs, validation = pruned.identity, (before, *epochs_of(result)), scores_of(result.validation)
            is_stopped = len(result.epochs) < self.study.training.epochs
        return self._finish(
            pruned.network, identity, epochs, validation, pruned.watch, top1_before_recalibration, is_stopped=is_stopped
        )

    def _begin(self, pruned: Pruned) -> tuple[EpochResult, Scores, float | None]:
        """Recalibrate a pruned candidate; return its scores before training, and top1 before recalibration."""
        if (known := self.earlier(pruned.untrained_identity)) is not None:  # its latency was wanted first
            pruned.module.load_state_dict(rebuild(get_object(self.store, known.checkpoint)).module.state_dict())
            return known.epochs[0], known.validation, known.top1_before_recalibration
        watch, top1_before_recalibration = pruned.watch, None
        with watch.phase("evaluate"):
            validation = self._evaluate(pruned.module, self.splits.validation)
        if self.is_recalibrated(pruned):
            top1_before_recalibration = validation.top1
            with watch.phase("recalibrate"):
                self.recalibrate(pruned)
            with watch.phase("evaluate"):
                validation = self._evaluate(pruned.module, self.splits.validation)
        return before_training(validation, watch), validation, top1_before_recalibration

    def test(self, checkpoint: str, now: str) -> TestScores:
        """Evaluate a network on test data, which only finalists and baselines may see; the access is noted."""
        module, images = rebuild(get_object(self.store, checkpoint)).module, self.splits.test
        scores = with_own_metrics(self.study.evaluation, self._evaluate(module, images), module, images)
        return TestScores(**scores.model_dump(), accessed_at=(now,), class_names=self.splits.class_names)

    def _retrain(self, pruned: Pruned, goes_on: GoesOn) -> TrainingResult:
        is_taught = self.study.training.distillation
        teacher = rebuild(get_object(self.store, pruned.unpruned)).module if is_taught else None
        return self._train(pruned.module, self.study.training, pruned.engine, pruned.identity, teacher, goes_on)

    def _train(
        self,
        module: nn.Module,
        training: Training,
        callbacks: Callbacks,
        identity: str,
        teacher: nn.Module | None = None,
        goes_on: GoesOn = always,
    ) -> TrainingResult:
        self.export(module, num_checks=0)  # what the gate refuses is not worth training
        clear_old_checkpoints()
        splits = self.splits
        return train(
            module,
            splits.train,
            splits.validation,
            self.settings(training),
            callbacks,
            normalize=splits.normalize,
            teacher=teacher,
            checkpoint=checkpoint_path(identity),
            goes_on=goes_on,
        )

    def settings(self, training: Training) -> TrainingSettings:
        """Return how a network is trained here."""
        not_there = {"augment", "distillation", "distillation_weight", "lr_curve", "precision", "recalibration_images"}
        return TrainingSettings(
            **training.model_dump(exclude=not_there),
            lr_curve=training.lr_curve or ("schedule" if self.schedule.of_kind("lr_scheduler") else "one_cycle"),
            distillation_weight=training.distillation_weight if training.distillation else 0.0,
            max_shift=4 if training.augment else 0,
            flip=training.augment and self.splits.is_flippable,
            seed=self.study.search.seed if self.training_seed is None else self.training_seed,
            device=self.device,
            precision=training.precision or fastest_precision(self.device),
        )

    def _evaluate(self, module: nn.Module, images: Images) -> Scores:
        return scores_of(evaluate(module, images, self.splits.normalize, device=self.device))

    def _finish(
        self,
        network: Network,
        identity: str,
        epochs: tuple[EpochResult, ...],
        validation: Scores,
        watch: Stopwatch,
        top1_before_recalibration: float | None = None,
        *,
        is_stopped: bool = False,
    ) -> Compressed:
        """Export and store; the last write makes the result, if it is complete, known to equal candidates."""
        module = network.module.eval()
        with watch.phase("evaluate"):
            validation = with_own_metrics(self.study.evaluation, validation, module, self.splits.validation)
        with watch.phase("export"):
            content = self.export(module)
        with watch.phase("store"):
            onnx, checkpoint = put_object(self.store, content), put_object(self.store, save_network(network))
        compressed = Compressed(
            layers={
                name: KeptFilters(num_filters=count, kept=network.kept[name])
                for name, count in num_filters(network.arch, network.num_classes).items()
            },
            num_params=count_params(module),
            macs=count_macs(module, self.example_NCHW),
            size_bytes=len(content),
            architecture=architecture_signature(content),
            onnx=onnx,
            checkpoint=checkpoint,
            epochs=epochs,
            is_stopped=is_stopped,
            top1_before_recalibration=top1_before_recalibration,
            validation=validation.model_copy(update={"confusion": None}),
            seconds=watch.seconds,
        )
        if not is_stopped:
            put_json(self.store, identity, compressed.model_dump(mode="json"))
            checkpoint_path(identity).unlink(missing_ok=True)
        return compressed

    def export(self, module: nn.Module, *, num_checks: int = 2) -> bytes:
        """Export a network, and have it pass the gate."""
        opset = self.study.device.onnx_opset
        content = export_onnx(module.cpu(), self.splits.input_size, opset=opset, num_checks=num_checks)
        self.gate(content)
        return content

    def _identity(self, origin: str, training: TrainingSettings | None, pruning: Mapping[str, Any]) -> str:
        """Return the cache key of a network: what it is made of, how, on which data, with which seed."""
        parts = {
            "version": _IDENTITY_VERSION,
            "model": self.study.model,
            "origin": origin,
            "data": data_identity(self.splits),
            "training": None if training is None else asdict(training),
            "pruning": pruning,
            "seed": self.study.search.seed,
            "evaluation": self.study.evaluation,
            "device": self.device,
            "onnx_opset": self.study.device.onnx_opset,
        }
        return f"cache/compressed/{digest_of(parts)}.json"

    def earlier(self, identity: str) -> Compressed | None:
        """Return what became of an equal candidate, if there was one."""
        try:
            compressed = Compressed.model_validate(get_json(self.store, identity))
        except NotFoundError:
            return None
        self.gate(get_object(self.store, compressed.onnx))  # it may have been made for another device
        return compressed
