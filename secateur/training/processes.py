"""Processes that train one network together, each a part of every minibatch (data parallelism).

`torchrun` starts them. In a process that is alone nothing here does anything, or costs anything.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor

from secateur import progress
from secateur.errors import InputError


@contextmanager
def together() -> Iterator[None]:
    """Join the processes that torchrun has started, if it was torchrun; only the first of them shows its progress.

    Tensors of the CPU are exchanged by gloo, those of GPUs by NCCL.

    Raises:
        InputError: This host has GPUs, but fewer than processes.
    """
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        yield
        return
    if num_gpus := torch.cuda.device_count():
        _take_gpu(int(os.environ["LOCAL_RANK"]), num_gpus)
    dist.init_process_group()
    try:
        if is_first():
            yield
        else:
            with progress.show_on(progress.Silent()):
                yield
    finally:
        dist.destroy_process_group()


def _take_gpu(number: int, num_gpus: int) -> None:
    if number >= num_gpus:
        raise InputError(
            f"torchrun started process {number + 1} on a host of {num_gpus} GPUs: each needs its own. Say"
            f" --nproc-per-node {num_gpus}."
        )
    torch.cuda.set_device(number)


def num_processes() -> int:
    """Return how many train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Tell whether this process writes files and messages for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


@dataclass(frozen=True, kw_only=True)
class Part:
    """Which rows of a whole are this process's."""

    rows: slice
    """Never empty: where there are fewer rows than processes, some share the first."""
    share: float
    """Of the whole; 0 where another process has the same rows."""
    num_rows: int
    """Of the whole."""


def own_part(num_rows: int) -> Part:
    """Divide `num_rows` among the processes, in order, as evenly as can be."""
    if num_processes() == 1:
        return Part(rows=slice(0, num_rows), share=1.0, num_rows=num_rows)
    rank, (each, rest) = dist.get_rank(), divmod(num_rows, num_processes())
    if rank >= num_rows:
        return Part(rows=slice(0, 1), share=0.0, num_rows=num_rows)
    start = rank * each + min(rank, rest)
    size = each + (rank < rest)
    return Part(rows=slice(start, start + size), share=size / num_rows, num_rows=num_rows)


def add_up(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type and device by their sums over all processes, in one exchange."""
    if num_processes() == 1:
        return
    sums = torch.cat([tensor.flatten() for tensor in tensors])
    dist.all_reduce(sums)
    for tensor, summed in zip(tensors, torch.split(sums, [tensor.numel() for tensor in tensors]), strict=True):
        tensor.copy_(summed.view(tensor.shape))


def average(tensors: Sequence[Tensor]) -> None:
    """Replace tensors of one type and device by their means over all processes."""
    if num_processes() > 1 and tensors:
        add_up(tensors)
        torch._foreach_div_(list(tensors), num_processes())


def gathered(own_NK: Tensor, part: Part) -> Tensor:
    """Return the rows of all processes, from what each has found out about its own; on the CPU."""
    if num_processes() == 1:
        return own_NK
    whole_NK = own_NK.new_zeros(part.num_rows, own_NK.shape[1])
    if part.share:
        whole_NK[part.rows] = own_NK
    dist.all_reduce(whole_NK)
    return whole_NK


def first_says(is_so: bool) -> bool:
    """Return what the first process said, whatever the others did."""
    if num_processes() == 1:
        return is_so
    said = torch.tensor(is_so, dtype=torch.uint8)
    dist.broadcast(said, src=0)
    return bool(said)


def all_say_the_same(number: int) -> bool:
    """Tell all processes whether each of them has the same number."""
    if num_processes() == 1:
        return True
    least_and_most_2 = torch.tensor([-number, number])
    dist.all_reduce(least_and_most_2, op=dist.ReduceOp.MAX)
    return int(least_and_most_2.sum()) == 0


def take_from_first(tensors: Iterable[Tensor]) -> None:
    """Replace tensors by the first process's."""
    if num_processes() == 1:
        return
    with torch.no_grad():
        for tensor in tensors:
            sent = tensor.contiguous()
            dist.broadcast(sent, src=0)
            tensor.copy_(sent)
