"""At which sparsity does it pay to store weights as compressed sparse rows? Timed on this host's CPU, f32."""

from __future__ import annotations

import math
import random
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from secateur import progress
from secateur.analysis.onnx_layers import LayerWork
from secateur.findings import StorageComparison

SPARSITIES = (0.5, 0.7, 0.9, 0.95, 0.99)
_NUM_ROUNDS = 9
_BLOCK_S = 2e-3


def compare_storage(
    work: Sequence[LayerWork],
    weights: Mapping[str, Tensor],
    masked: Mapping[str, Tensor],
    num_threads: int | None,
    sparsities: Sequence[float] = SPARSITIES,
) -> Iterator[StorageComparison]:
    """Time each layer's matrix product with dense and with sparse weights, equal zeros in both.

    Grouped convolutions are left out: they are many small products.

    Args:
        work: The layers, and the sizes of their products.
        weights: Layer -> weight.
        masked: Layer -> the weight with the zeros that pruning made.
        num_threads: None: as many as torch takes.
        sparsities: Layers of one shape are timed once for each, with the first one's smallest weights zero.
    """
    by_shape: dict[tuple[int, int, int], list[str]] = {}
    for layer in work:
        if layer.num_groups == 1:
            by_shape.setdefault(layer.product, []).append(layer.name)
    own = [name for names in by_shape.values() for name in names if bool((masked[name] == 0).any())]
    total = len(by_shape) * len(sparsities) + len(own)
    with _threads(num_threads), progress.track("dense against CSR", total=total) as bar:
        for shape, names in by_shape.items():
            for sparsity in sparsities:
                zeroed = _without_smallest(weights[names[0]], sparsity)
                yield _compared(tuple(names), shape, zeroed, sparsity)
                bar.advance()
            for name in names:
                if name in own:
                    yield _compared((name,), shape, masked[name], None)
                    bar.advance()


def _compared(
    names: tuple[str, ...], shape: tuple[int, int, int], weight: Tensor, desired_sparsity: float | None
) -> StorageComparison:
    rows, inner, columns = shape
    dense_RI = weight.detach().reshape(rows, inner)
    columns_IC = torch.rand(inner, columns, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Sparse CSR tensor support is in beta")
        csr_RI = dense_RI.to_sparse_csr()
        dense_ms, csr_ms = _shortest_ms([lambda: dense_RI @ columns_IC, lambda: csr_RI @ columns_IC])
    return StorageComparison(
        layers=names,
        shape=shape,
        desired_sparsity=desired_sparsity,
        sparsity=float((dense_RI == 0).float().mean()),
        dense_ms=dense_ms,
        csr_ms=csr_ms,
    )


def _shortest_ms(products: Sequence[Callable[[], Tensor]]) -> list[float]:
    """Return the shortest time of each, taken in turns: whatever disturbs only adds (Chen and Revels 2016)."""
    repeats = [
        max(1, math.ceil(_BLOCK_S / max(min(_seconds(product) for _ in range(2)), 1e-7))) for product in products
    ]
    shortest_s = [math.inf] * len(products)
    order, chance = list(range(len(products))), random.Random(0)
    for _ in range(_NUM_ROUNDS):
        chance.shuffle(order)
        for index in order:
            taken_s = min(_seconds(products[index]) for _ in range(repeats[index]))
            shortest_s[index] = min(shortest_s[index], taken_s)
    return [seconds * 1e3 for seconds in shortest_s]


def _seconds(product: Callable[[], Tensor]) -> float:
    start = time.perf_counter()
    product()
    return time.perf_counter() - start


def _without_smallest(weight: Tensor, sparsity: float) -> Tensor:
    """Return the weight with a fraction of its elements zero, those of the smallest magnitude."""
    flat = weight.detach().flatten().clone()
    flat[flat.abs().argsort(stable=True)[: round(sparsity * flat.numel())]] = 0
    return flat.view(weight.shape)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if number is not None:
        torch.set_num_threads(number)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)
