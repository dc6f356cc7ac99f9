"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Generator, Tensor, nn
from torch.optim import SGD, Optimizer

from secateur import progress
from secateur.errors import TrainingError
from secateur.results import EpochResult, Scores
from secateur.training.batches import Images, Normalization, augmented, fastest_memory_format, normalized
from secateur.training.callbacks import Callbacks
from secateur.training.evaluation import evaluate
from secateur.training.settings import TrainingSettings, autocast


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """What training led to. The last epoch counts, never the best."""

    epochs: tuple[EpochResult, ...]
    """`training_loss` is the epoch's mean cross entropy, regularisation left out; `lr` the one it began with."""
    validation: Scores
    """After the last epoch."""


def train(
    model: nn.Module,
    train_images: Images,
    validation_images: Images,
    settings: TrainingSettings,
    callbacks: Callbacks,
    *,
    normalize: Normalization,
) -> TrainingResult:
    """Train `model` in place with SGD on cross entropy, and evaluate it after every epoch.

    On the CPU the same seed, weights and number of threads give the same weights, bit for bit. The global random
    state and the model's mode are left as they were.

    Raises:
        TrainingError: The loss became NaN or infinite; names epoch and learning rate.
    """
    was_training = model.training
    model.to(settings.device)
    trainer = _Trainer(
        model=model,
        batches=_Batches(model, train_images, normalize, settings),
        validation_images=validation_images,
        normalize=normalize,
        optimizer=SGD(model.parameters(), settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay),
        callbacks=callbacks,
        settings=settings,
    )
    try:
        with torch.random.fork_rng(devices=[settings.device] if settings.device == "cuda" else []):
            torch.manual_seed(settings.seed)
            return trainer.run()
    finally:
        model.train(was_training)


@dataclass(frozen=True, kw_only=True)
class _Trainer:
    model: nn.Module
    batches: _Batches
    validation_images: Images
    normalize: Normalization
    optimizer: Optimizer
    callbacks: Callbacks
    settings: TrainingSettings

    @property
    def lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def run(self) -> TrainingResult:
        epochs: list[EpochResult] = []
        scores: Scores | None = None
        self.callbacks.on_training_begin(self.optimizer)
        for epoch in range(self.settings.epochs):
            started, lr = time.perf_counter(), self.lr
            with progress.track(f"epoch {epoch + 1}/{self.settings.epochs}", total=len(self.batches)) as bar:
                self.callbacks.on_epoch_begin(epoch)
                training_loss = self._train_epoch(epoch, bar)
                scores = self._evaluate(f"After epoch {epoch + 1} of {self.settings.epochs}, at lr {lr:g}: ")
                bar.advance(0, note=f"top1 {scores.top1:.2f}")
            self.callbacks.on_epoch_end(epoch, self.optimizer, scores)
            epochs.append(
                EpochResult(
                    epoch=epoch,
                    lr=lr,
                    training_loss=training_loss,
                    top1=scores.top1,
                    top5=scores.top5,
                    loss=scores.loss,
                    duration_s=time.perf_counter() - started,
                )
            )
        return TrainingResult(epochs=tuple(epochs), validation=scores or self._evaluate(""))

    def _train_epoch(self, epoch: int, bar: progress.Bar) -> float:
        """Return the mean cross entropy."""
        self.model.train()
        num_minibatches = len(self.batches)
        total_loss, num_images = 0.0, 0
        for minibatch, (inputs_NCHW, labels_N) in enumerate(self.batches):
            self.callbacks.on_minibatch_begin(epoch, minibatch, num_minibatches)
            _follow_parameters(self.optimizer, self.model)
            where = f"in epoch {epoch + 1} of {self.settings.epochs}, minibatch {minibatch + 1} of {num_minibatches}"
            total_loss += self._step(inputs_NCHW, labels_N, where) * len(labels_N)
            self.callbacks.on_minibatch_end(epoch, minibatch, num_minibatches)
            num_images += len(labels_N)
            bar.advance(note=f"loss {total_loss / num_images:.3f}")
        return total_loss / num_images

    def _step(self, inputs_NCHW: Tensor, labels_N: Tensor, where: str) -> float:
        """Return the minibatch's cross entropy.

        No reference to the autograd graph survives: it would hold the shapes that a callback may change before
        the next step.
        """
        with autocast(self.settings.device, self.settings.precision):
            logits_NK = self.model(inputs_NCHW)
        cross_entropy = F.cross_entropy(logits_NK.float(), labels_N)
        loss = self.callbacks.before_backward(cross_entropy)
        if not math.isfinite(value := loss.item()):
            raise TrainingError(
                f"The loss became {value} {where}, at lr {self.lr:g}. Lower training.lr, or prune less at once."
            )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.callbacks.before_optimizer_step()
        self.optimizer.step()
        return cross_entropy.item()

    def _evaluate(self, where: str) -> Scores:
        try:
            return evaluate(self.model, self.validation_images, self.normalize, device=self.settings.device)
        except TrainingError as exc:
            raise TrainingError(f"{where}{exc}") from None


class _Batches:
    """The training images on the device, dealt anew for each epoch."""

    def __init__(self, model: nn.Module, images: Images, normalize: Normalization, settings: TrainingSettings) -> None:
        self._images_NHWC = images.images_NHWC.to(settings.device)
        self._labels_N = images.labels_N.to(settings.device)
        self._normalize = normalize
        self._settings = settings
        self._generator = Generator().manual_seed(settings.seed)  # apart from what the network draws
        self._layout = fastest_memory_format(model, normalized(self._images_NHWC[:2], normalize))

    def __len__(self) -> int:
        return math.ceil(len(self._labels_N) / self._settings.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield every image once, in random order: N x C x H x W inputs and N labels."""
        order_N = torch.randperm(len(self._labels_N), generator=self._generator).to(self._labels_N.device)
        for rows_N in torch.split(order_N, self._settings.batch_size):
            images_NHWC = augmented(
                self._images_NHWC.index_select(0, rows_N),
                max_shift=self._settings.max_shift,
                flip=self._settings.flip,
                generator=self._generator,
            )
            inputs_NCHW = normalized(images_NHWC, self._normalize).contiguous(memory_format=self._layout)
            yield inputs_NCHW, self._labels_N.index_select(0, rows_N)


def _follow_parameters(optimizer: Optimizer, model: nn.Module) -> None:
    """Let the optimizer see what a callback has made of the model; changed shapes lose their momentum."""
    parameters = list(model.parameters())
    optimizer.param_groups[0]["params"] = parameters
    present = set(parameters)
    for parameter, state in list(optimizer.state.items()):
        momentum = state.get("momentum_buffer")
        if parameter not in present or (momentum is not None and momentum.shape != parameter.shape):
            del optimizer.state[parameter]
