"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from secateur import progress
from secateur.errors import InputError, MachineError, TrainingError
from secateur.training import processes
from secateur.training.batch_norm import Context, fast_batch_norm_on
from secateur.training.batches import Batches, Images, Minibatch, Normalization
from secateur.training.callbacks import Callbacks
from secateur.training.checkpoint import read_checkpoint, write_checkpoint
from secateur.training.evaluation import check_device, evaluate
from secateur.training.losses import Criterion
from secateur.training.memory import freed_memory_kept, is_out_of_memory
from secateur.training.optimization import WeightAverage, follow_parameters, learning_rate, make_optimizer
from secateur.training.outcomes import Evaluation, TrainedEpoch, TrainingResult
from secateur.training.settings import TrainingSettings, autocast

_LOOK_EVERY = 32
"""Minibatches between two looks at the loss, each of which waits for the device."""

_EVALUATION_BATCH_SIZE = 128


def train(
    model: nn.Module,
    train_images: Images,
    validation_images: Images,
    settings: TrainingSettings,
    callbacks: Callbacks,
    *,
    normalize: Normalization,
    teacher: nn.Module | None = None,
    checkpoint: Path | None = None,
    goes_on: Callable[[Sequence[TrainedEpoch]], bool] = lambda epochs: True,  # noqa: ARG005
) -> TrainingResult:
    """Train `model` in place with SGD, and evaluate it after every epoch.

    On the CPU the same seed, weights and number of threads give the same weights, bit for bit, also if the process is
    killed and called again. The global random state and the model's mode are left as they were. A minibatch for which
    the memory does not suffice is divided, and so are all after it: the optimizer's steps stay the same.

    Where several processes call it with the same arguments (`torch.distributed` is initialized), each computes a part
    of every minibatch, and the gradients are added up: as with `accumulation`, each part is normalised by its own
    statistics. The first process's weights count, and it alone writes checkpoints, which all must be able to read.

    Args:
        model: The network, as it is to begin with; again when a killed training goes on.
        train_images: Dealt anew for each epoch.
        validation_images: Evaluated after each.
        settings: How.
        callbacks: What a compression schedule does meanwhile.
        normalize: What the network was, or is to be, trained with.
        teacher: Whose logits are imitated, with `settings.distillation_weight`; put into eval mode.
        checkpoint: A file, written after every epoch, from which an earlier call with the same arguments goes on.
        goes_on: Asked before every epoch, given those so far: whether there is to be another. If not, training ends
            there, and what it led to has fewer epochs; a later call can go on from the checkpoint.

    Raises:
        InputError: There is a teacher but no `distillation_weight`, or the other way round; or the checkpoint belongs
            to another training; or the GPU that is asked for is not there.
        TrainingError: The loss became NaN or infinite (names epoch and learning rate).
        MachineError: The memory does not suffice for one image; the checkpoint cannot be read, or not by all processes.
    """
    check_device(settings.device)
    if (teacher is None) != (settings.distillation_weight == 0):
        raise InputError(
            f"distillation_weight is {settings.distillation_weight:g}, and there is {'no' if teacher is None else 'a'}"
            " teacher. Give train() a network to imitate and a weight above 0, or neither."
        )
    if teacher is not None:
        teacher.to(settings.device).eval()
    was_training = model.training
    model.to(settings.device)
    trainer = _Trainer(
        model=model,
        batches=Batches(model, train_images, normalize, settings),
        validation_images=validation_images,
        normalize=normalize,
        optimizer=make_optimizer(model, settings),
        criterion=Criterion(settings=settings, teacher=teacher),
        scaler=GradScaler(settings.device, enabled=settings.precision == "f16"),
        average=WeightAverage(model, settings.ema_decay) if settings.ema_decay else None,
        callbacks=callbacks,
        settings=settings,
        checkpoint=checkpoint,
        goes_on=goes_on,
    )
    try:
        with (
            freed_memory_kept(settings.device),
            _deterministic(settings),
            torch.random.fork_rng(devices=[settings.device] if settings.device == "cuda" else []),
        ):
            torch.manual_seed(settings.seed)
            return trainer.run()
    finally:
        model.train(was_training)


@dataclass(kw_only=True)
class _Trainer:
    model: nn.Module
    batches: Batches
    validation_images: Images
    normalize: Normalization
    optimizer: Optimizer
    criterion: Criterion
    scaler: GradScaler
    average: WeightAverage | None
    callbacks: Callbacks
    settings: TrainingSettings
    checkpoint: Path | None
    goes_on: Callable[[Sequence[TrainedEpoch]], bool]
    epochs: list[TrainedEpoch] = field(default_factory=list)
    validation: Evaluation | None = None
    fast: Context | None = None
    """What forward passes are run in; not known before the first minibatch."""

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def run(self) -> TrainingResult:
        self.callbacks.on_training_begin(self.optimizer)
        if self.checkpoint is not None and (state := read_checkpoint(self.checkpoint)) is not None:
            self._load_state_dict(state, self.checkpoint)
        if not processes.all_say_the_same(len(self.epochs)):
            raise MachineError(
                f"Of the processes that train together, some see the checkpoint {self.checkpoint} and some do not. Put"
                " it into a folder that all their hosts share."
            )
        processes.take_from_first([*self.model.parameters(), *self.model.buffers()])
        while len(self.epochs) < self.settings.epochs and processes.first_says(self.goes_on(self.epochs)):
            self._train_epoch(len(self.epochs))
            if self.checkpoint is not None and processes.is_first():
                write_checkpoint(self.checkpoint, self._state_dict())
        if self.average is not None:
            self.average.copy_to(self.model)
        return TrainingResult(epochs=tuple(self.epochs), validation=self.validation or self._evaluate(""))

    def _train_epoch(self, epoch: int) -> None:
        started = time.perf_counter()
        with progress.track(f"epoch {epoch + 1}/{self.settings.epochs}", total=len(self.batches)) as bar:
            self._follow_curve(epoch)
            lr = self.lr
            self.callbacks.on_epoch_begin(epoch)
            training_loss, num_images = self._descend(epoch, bar)
            self._share_statistics()
            trained_s = time.perf_counter() - started
            with nullcontext() if self.average is None else self.average.applied_to(self.model):
                scores = self._evaluate(f"After epoch {epoch + 1} of {self.settings.epochs}, at lr {lr:g}: ")
            bar.advance(0, note=f"top1 {scores.top1:.2f}")
        self.callbacks.on_epoch_end(epoch, self.optimizer, scores)
        self.validation = scores
        self.epochs.append(
            TrainedEpoch(
                epoch=epoch,
                lr=lr,
                training_loss=training_loss,
                top1=scores.top1,
                top5=scores.top5,
                loss=scores.loss,
                duration_s=time.perf_counter() - started,
                images_per_s=num_images / trained_s,
            )
        )

    def _descend(self, epoch: int, bar: progress.Bar) -> tuple[float, int]:
        """Take one step a minibatch; return the mean loss and the number of images."""
        self.model.train()
        num_minibatches = len(self.batches)
        losses = _Losses(f"in epoch {epoch + 1} of {self.settings.epochs}, minibatch {{}} of {num_minibatches}")
        for minibatch, images in enumerate(self.batches):
            self.callbacks.on_minibatch_begin(epoch, minibatch, num_minibatches)
            follow_parameters(self.optimizer, self.model, self.settings)
            self._follow_curve(epoch + minibatch / num_minibatches)
            values_2 = self._gradients(images)
            processes.add_up([*self._present_gradients(), values_2])
            losses.add(values_2, num_images=images.num_images, lr=self.lr)
            self.scaler.unscale_(self.optimizer)
            self.callbacks.before_optimizer_step()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.callbacks.on_minibatch_end(epoch, minibatch, num_minibatches)
            if self.average is not None:
                self.average.update(self.model)
            is_last = minibatch == num_minibatches - 1
            if is_last or (minibatch + 1) % _LOOK_EVERY == 0:
                bar.advance(0, note=f"loss {losses.look():.3f}")
            bar.advance()
        return losses.look(), losses.num_images

    def _follow_curve(self, epoch: float) -> None:
        if self.settings.lr_curve != "schedule":
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(self.settings, epoch)

    def _present_gradients(self) -> list[Tensor]:
        return [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]

    def _share_statistics(self) -> None:
        """Let all processes have the same running statistics: each has seen its own parts of the minibatches."""
        processes.average([buffer for buffer in self.model.buffers() if buffer.is_floating_point()])
        if self.average is not None:
            processes.average(self.average.tensors)

    def _gradients(self, images: Minibatch) -> Tensor:
        """Give the parameters the minibatch's gradients; return its loss, and what was descended on."""
        while True:
            try:
                return self._tried(images) if self.fast is None else self._accumulated(images, self.fast)
            except RuntimeError as exc:
                if not is_out_of_memory(exc):
                    raise
                problem = str(exc)
            # Here, and not above, the exception and the tensors that it holds are gone.
            self._divide(len(images.labels_N), problem)

    def _tried(self, images: Minibatch) -> Tensor:
        """Do as `_gradients`, and find out how the network is to be run; if not as hoped, callbacks are asked twice."""
        fast, random = fast_batch_norm_on(self.settings.device), torch.get_rng_state()
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        values_2 = self._accumulated(images, fast)
        if fast is not nullcontext and bool(values_2.isnan().any()):
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
            torch.set_rng_state(random)
            fast = nullcontext
            values_2 = self._accumulated(images, fast)
        self.fast = fast
        return values_2

    def _accumulated(self, images: Minibatch, fast: Context) -> Tensor:
        """Do as `_gradients`, in as many parts as the settings say.

        No reference to the autograd graph survives: it would hold the shapes that a callback may change before the
        next step.
        """
        self.optimizer.zero_grad(set_to_none=True)
        num_images = len(images.labels_N)
        size = math.ceil(num_images / self.settings.accumulation)
        values: list[Tensor] = []
        parts = zip(torch.split(images.inputs_NCHW, size), torch.split(images.labels_N, size), strict=True)
        for part_NCHW, part_N in parts:
            with fast(), autocast(self.settings.device, self.settings.precision):
                logits_NK = self.model(part_NCHW)
            loss = self.criterion(part_NCHW, logits_NK, part_N) * (len(part_N) / num_images * images.share)
            is_first = not values and processes.is_first()
            objective = self.callbacks.before_backward(loss) if is_first else loss
            self.scaler.scale(objective).backward()  # type: ignore[no-untyped-call]
            values.append(torch.stack([loss.detach(), objective.detach()]))
        return torch.stack(values).sum(dim=0)

    def _divide(self, num_images: int, problem: str) -> None:
        size = math.ceil(num_images / self.settings.accumulation)
        if size == 1:
            raise MachineError(f"The memory does not suffice to train on one image: {problem}")
        if self.settings.device == "cuda":
            torch.cuda.empty_cache()
        self.settings = replace(self.settings, accumulation=2 * self.settings.accumulation)
        progress.message(
            f"The memory does not suffice for {size} images at once: training goes on with {math.ceil(size / 2)}, their"
            f" gradients added up to minibatches of {self.settings.batch_size} as before."
        )

    def _evaluate(self, where: str) -> Evaluation:
        batch_size = _EVALUATION_BATCH_SIZE
        while True:
            try:
                return evaluate(
                    self.model,
                    self.validation_images,
                    self.normalize,
                    batch_size=batch_size,
                    device=self.settings.device,
                )
            except TrainingError as exc:
                raise TrainingError(f"{where}{exc}") from None
            except RuntimeError as exc:
                if not is_out_of_memory(exc) or batch_size == 1:
                    raise
            batch_size //= 2

    def _state_dict(self) -> dict[str, Any]:
        momenta = {
            name: momentum
            for name, parameter in self.model.named_parameters()
            if (momentum := self.optimizer.state[parameter].get("momentum_buffer")) is not None
        }
        random = {"cpu": torch.get_rng_state(), "batches": self.batches.generator.get_state()}
        if self.settings.device == "cuda":
            random["cuda"] = torch.cuda.get_rng_state()
        return {
            "settings": asdict(self.settings),
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "model": self.model.state_dict(),
            "momenta": momenta,
            "lrs": [group["lr"] for group in self.optimizer.param_groups],
            "scaler": self.scaler.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "callbacks": self.callbacks.state_dict(),
            "random": random,
        }

    def _load_state_dict(self, state: dict[str, Any], path: Path) -> None:
        accumulation = state["settings"]["accumulation"]  # more than asked for, where memory was short
        own = asdict(replace(self.settings, accumulation=accumulation))
        if state["settings"] != own:
            other = sorted(name for name, value in state["settings"].items() if own.get(name) != value)
            raise InputError(f"The checkpoint {path} is of a training with another {', '.join(other)}. Remove it.")
        self.settings = replace(self.settings, accumulation=accumulation)
        self.epochs = [TrainedEpoch(**epoch) for epoch in state["epochs"]]
        self.callbacks.load_state_dict(state["callbacks"])
        self.model.load_state_dict(state["model"])
        follow_parameters(self.optimizer, self.model, self.settings)
        for name, momentum in state["momenta"].items():
            parameter = self.model.get_parameter(name)
            self.optimizer.state[parameter]["momentum_buffer"] = momentum.to(parameter.device)
        for group, lr in zip(self.optimizer.param_groups, state["lrs"], strict=True):
            group["lr"] = lr
        self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.batches.generator.set_state(state["random"]["batches"])
        torch.set_rng_state(state["random"]["cpu"])
        if self.settings.device == "cuda":
            torch.cuda.set_rng_state(state["random"]["cuda"])


@dataclass(kw_only=True)
class _Seen:
    """One minibatch's losses, on the device."""

    values_2: Tensor
    num_images: int
    lr: float


class _Losses:
    """The losses of an epoch. Looking at one waits for the device, so they are looked at together, now and then."""

    def __init__(self, where: str) -> None:
        self.num_images = 0
        self._where = where
        self._total = 0.0
        self._num_looked_at = 0
        self._unseen: list[_Seen] = []

    def add(self, values_2: Tensor, *, num_images: int, lr: float) -> None:
        """Note a minibatch's losses: the one that is reported, and the one that is descended on."""
        self._unseen.append(_Seen(values_2=values_2, num_images=num_images, lr=lr))

    def look(self) -> float:
        """Return the mean loss so far.

        Raises:
            TrainingError: Some was NaN or infinite.
        """
        if self._unseen:
            values_M2 = torch.stack([seen.values_2 for seen in self._unseen]).tolist()
            for seen, (loss, objective) in zip(self._unseen, values_M2, strict=True):
                self._num_looked_at += 1
                if not math.isfinite(objective):
                    where = self._where.format(self._num_looked_at)
                    raise TrainingError(
                        f"The loss became {objective} {where}, at lr {seen.lr:g}. Lower training.lr, or prune less at"
                        " once."
                    )
                self._total += loss * seen.num_images
                self.num_images += seen.num_images
            self._unseen.clear()
        return self._total / self.num_images


@contextmanager
def _deterministic(settings: TrainingSettings) -> Iterator[None]:
    """Let torch refuse, where the settings say so, whatever does not compute the same twice."""
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(settings.deterministic or before, warn_only=warns and not settings.deterministic)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
