"""Memory that does not suffice divides minibatches, and the optimizer's steps stay the same; what is free is kept."""

from __future__ import annotations

import platform
import resource
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.errors import MachineError
from secateur.training import NoCallbacks, TrainingResult, TrainingSettings, train
from secateur.training.memory import freed_memory_kept
from tests.training.networks import Unchanged, some_images
from tests.training.test_checkpoint import messages


def out_of_cuda_memory() -> RuntimeError:
    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


def out_of_memory() -> RuntimeError:
    try:
        torch.empty(2**55, dtype=torch.uint8)
    except RuntimeError as exc:
        return exc
    raise AssertionError("there is too much memory here")


class Hungry(nn.Module):
    """A network without batch normalisation, whose steps do not depend on how a minibatch is divided."""

    def __init__(self, limit: int = 1000, error: RuntimeError | None = None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
        self.limit, self.error = limit, error
        self.sizes: list[int] = []

    def forward(self, images_NCHW: Tensor) -> Tensor:
        self.sizes.append(len(images_NCHW))
        if len(images_NCHW) > self.limit:
            assert self.error is not None
            raise self.error
        logits_NK: Tensor = self.layers(images_NCHW)
        return logits_NK


def run(model: nn.Module, **others: Any) -> TrainingResult:
    settings = TrainingSettings(**{"epochs": 2, "lr": 0.05, "batch_size": 32, **others})
    return train(model, some_images(80), some_images(40, seed=1), settings, NoCallbacks(), normalize=Unchanged())


def assert_alike(one: nn.Module, other: nn.Module) -> None:
    for parameter, same in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(parameter, same, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("accumulation", [2, 3, 32])
def test_accumulated_gradients_make_the_same_steps(accumulation: int) -> None:
    whole, divided = Hungry(), Hungry()
    losses = [run(whole).epochs[-1].training_loss, run(divided, accumulation=accumulation).epochs[-1].training_loss]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert_alike(whole, divided)


@pytest.mark.parametrize("error", [out_of_cuda_memory(), out_of_memory()], ids=["cuda", "cpu"])
def test_training_goes_on_with_smaller_parts(error: RuntimeError) -> None:
    fed, hungry = Hungry(), Hungry(limit=10, error=error)
    with messages() as texts:
        result = run(hungry)
    run(fed)
    assert_alike(fed, hungry)
    assert len(result.epochs) == 2
    assert [text.partition(":")[0] for text in texts] == [
        "The memory does not suffice for 32 images at once",
        "The memory does not suffice for 16 images at once",
    ]
    assert hungry.sizes.count(32) == 1 + 2, "once in training, and in each evaluation, which begins anew"


def test_when_one_image_is_too_much_training_ends() -> None:
    with messages(), pytest.raises(MachineError, match="does not suffice to train on one image: CUDA out of memory"):
        run(Hungry(limit=0, error=out_of_cuda_memory()))


def test_other_errors_are_no_matter_of_memory() -> None:
    with pytest.raises(RuntimeError, match="something else"):
        run(Hungry(limit=10, error=RuntimeError("something else")))


NUM_BYTES = 1 << 24
"""Less than an arena of a thread may have in one piece, which is 64 MiB."""


def faults_of_an_allocation() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(NUM_BYTES, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told to")
def test_free_memory_is_kept_until_training_ends() -> None:
    num_pages = NUM_BYTES // resource.getpagesize()
    with freed_memory_kept("cpu"):
        faults = [faults_of_an_allocation() for _ in range(8)]  # the first find no room, and make it
    assert faults[-1] < num_pages / 10


def test_on_a_gpu_it_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", None)
    with freed_memory_kept("cuda"):
        pass
