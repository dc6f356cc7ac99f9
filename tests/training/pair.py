"""Two processes that train together: ``python -m tests.training.pair FOLDER`` writes what each of them ends with there.

FOLDER/plain/<rank>.safetensors      without batch normalisation
FOLDER/whole/<rank>.safetensors      with it, a teacher and an average
FOLDER/killed/<rank>.safetensors     the same, after one process was killed in the middle
"""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn

from secateur.training import NoCallbacks, TrainingSettings, train
from tests.training.networks import Unchanged, small_network, some_images

PLAIN = TrainingSettings(epochs=3, lr=0.05, batch_size=16, cutout=2)
WHOLE = replace(PLAIN, ema_decay=0.9, distillation_weight=0.5, nesterov=True, decay_vectors=False)
NUM_IMAGES = 33
"""The last minibatch has one image: one process has none."""


class Decaying(NoCallbacks):
    """Adds weight decay to the loss, and kills its process when an epoch begins."""

    def __init__(self, model: nn.Module, deadly_epoch: int | None = None) -> None:
        self.model, self.deadly_epoch = model, deadly_epoch

    def before_backward(self, loss: Tensor) -> Tensor:
        return loss + 1e-2 * sum(parameter.pow(2).sum() for parameter in self.model.parameters())

    def on_epoch_begin(self, epoch: int) -> None:
        if epoch == self.deadly_epoch:
            os.kill(os.getpid(), signal.SIGKILL)


def plain_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10))


def run(
    model: nn.Module, settings: TrainingSettings, checkpoint: Path | None = None, deadly: int | None = None
) -> dict[str, Tensor]:
    """Train, alone or together; return all that is left of it."""
    result = train(
        model,
        some_images(NUM_IMAGES),
        some_images(15, seed=1),
        settings,
        Decaying(model, deadly),
        normalize=Unchanged(),
        teacher=small_network(seed=7) if settings.distillation_weight else None,
        checkpoint=checkpoint,
    )
    curve = [[e.training_loss, e.top1, e.loss] for e in result.epochs]
    return {**model.state_dict(), "curve": torch.tensor(curve, dtype=torch.float64)}


def train_pair(folder: Path, model: nn.Module, settings: TrainingSettings, deadly_epoch: int | None = None) -> bool:
    """Train in two forks of this process; tell whether both came to their end.

    Nothing has been computed in this process: it has one thread.
    """
    folder.mkdir(exist_ok=True)
    store = folder / "rendezvous"
    children = []
    for rank in range(2):
        if (child := os.fork()) == 0:
            dist.init_process_group("gloo", init_method=store.as_uri(), rank=rank, world_size=2)
            deadly = deadly_epoch if rank == 1 else None
            left = run(model, settings, folder / "checkpoint.safetensors", deadly)
            save_file(left, folder / f"{rank}.safetensors")
            os._exit(0)
        children.append(child)
    codes = [os.waitpid(child, 0)[1] for child in children]
    store.unlink()
    return codes == [0, 0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    assert train_pair(folder / "plain", plain_network(), PLAIN)
    assert train_pair(folder / "whole", small_network(), WHOLE)
    assert not train_pair(folder / "killed", small_network(), WHOLE, deadly_epoch=2)
    assert train_pair(folder / "killed", small_network(), WHOLE)
