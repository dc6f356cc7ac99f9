"""What an explanation comes to, in sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from secateur.findings import Explanation, LayerComparison, LayerCost, NetworkCost
from secateur.report.formats import interval_text

_NOT_FASTER = 0.95
"""A smaller layer that still takes so much of its time did not get faster."""
_NUM_NAMES = 5


def verdict(found: Explanation) -> list[str]:
    """Return the answer to "why does pruning not shorten inference?", one sentence or two for each cause."""
    sentences = [_thinned(found), _masked(found.masked)]
    if found.layers:
        sentences += [_where_time_is(found), *_smaller_layers(found), _bounds(found)]
    else:
        sentences.append("The device keeps no counters, so nothing is known of single layers.")
    return [*sentences, *_storage(found)]


def _thinned(found: Explanation) -> str:
    thinned, macs = found.thinned, found.thinned.macs / found.unpruned.macs
    return (
        f"Thinned, the network takes {interval_text(thinned.latency_ratio)} of the unpruned one's time, with"
        f" {macs:.3f} of its multiply-accumulates{_noise(thinned)}."
    )


def _masked(masked: NetworkCost) -> str:
    ratio = masked.latency_ratio
    said = f"Masked only (zeros in place, shapes as before), it takes {interval_text(ratio)}"
    if ratio.high < 1:
        return f"{said}: zeros alone make it faster here{_noise(masked)}."
    return f"{said}: zeros alone gain nothing, since they are computed like other numbers{_noise(masked)}."


def _noise(network: NetworkCost) -> str:
    return " (noisy: the interval is wider than the profile asks)" if network.is_noisy else ""


def _where_time_is(found: Explanation) -> str:
    ranked = sorted(found.layers, key=lambda layer: -layer.unpruned.ms)
    total_ms = found.unpruned.other_ms + sum(layer.unpruned.ms for layer in ranked)
    half: list[LayerComparison] = []
    for layer in ranked:
        if sum(other.unpruned.ms for other in half) < total_ms / 2:
            half.append(layer)
    others = found.unpruned.other_ms / total_ms
    return (
        f"Of {total_ms:.3f} ms inside the device, operations without weights take {others:.0%};"
        f" {len(half)} of {len(ranked)} layers hold half: {_listed([layer.name for layer in half])}."
    )


def _smaller_layers(found: Explanation) -> Iterator[str]:
    smaller = [layer for layer in found.layers if layer.is_smaller]
    if not smaller:
        yield "No layer became smaller: what the schedule zeroes cannot be removed, or it prunes nothing at once."
        return
    before_ms, after_ms = (sum(times) for times in zip(*((s.unpruned.ms, s.thinned_ms) for s in smaller), strict=True))
    macs = _macs(layer.thinned for layer in smaller) / _macs(layer.unpruned for layer in smaller)
    yield (
        f"{len(smaller)} layers became smaller: they do {macs:.3f} of their multiply-accumulates in"
        f" {after_ms / before_ms:.3f} of their time ({before_ms:.3f} to {after_ms:.3f} ms)."
    )
    if slow := [layer for layer in smaller if layer.thinned_ms > _NOT_FASTER * layer.unpruned.ms]:
        named = _listed([_with_filters(layer) for layer in slow])
        yield f"{len(slow)} of them did not get faster: {named}. `secateur staircase` finds the numbers worth having."


def _bounds(found: Explanation) -> str:
    assert found.roof is not None
    parts = []
    for bound in ("arithmetic", "memory"):
        of_bound = [layer.unpruned for layer in found.layers if layer.unpruned.bound == bound]
        if of_bound:
            share = sum(cost.ms for cost in of_bound) / sum(layer.unpruned.ms for layer in found.layers)
            parts.append(f"{len(of_bound)} layers ({share:.0%} of the layers' time) are bound by {bound}")
    before = _attained(layer.unpruned for layer in found.layers)
    after = _attained(layer.thinned for layer in found.layers)
    return (
        f"At the device's best ({found.roof.macs_per_s / 1e9:.0f} GMAC/s, and its own speed of copying),"
        f" {' and '.join(parts)}. They are {before:.0%} as fast as that, thinned {after:.0%}"
        f"{': smaller layers use the device less well' if after < before else ''}."
    )


def _attained(costs: Iterable[LayerCost | None]) -> float:
    present = [cost for cost in costs if cost is not None]
    return sum(max(c.arithmetic_ms, c.memory_ms) for c in present) / sum(c.ms for c in present)


def _macs(costs: Iterable[LayerCost | None]) -> int:
    return sum(cost.macs for cost in costs if cost is not None)


def csr_ratios(found: Explanation) -> dict[float, tuple[float, float | None]]:
    """Return what the matrix products of all layers take with weights in CSR, by sparsity.

    Returns:
        Sparsity -> its time relative to dense products in the same library, and relative to the same layers on the
        device, if that is this CPU and keeps counters. The second wants more: CSR is f32, and has the inputs of each
        position laid out already.
    """
    on_device_ms = {layer.name: layer.unpruned.ms for layer in found.layers if found.device.device == "CPU"}
    common = [c for c in found.storage if c.desired_sparsity is not None]
    ratios: dict[float, tuple[float, float | None]] = {}
    for sparsity in sorted({c.desired_sparsity for c in common if c.desired_sparsity is not None}):
        products = [c for c in common if c.desired_sparsity == sparsity]
        csr_ms = sum(c.csr_ms * len(c.layers) for c in products)
        device_ms = sum(on_device_ms.get(layer, 0.0) for c in products for layer in c.layers)
        dense_ms = sum(c.dense_ms * len(c.layers) for c in products)
        ratios[sparsity] = csr_ms / dense_ms, csr_ms / device_ms if device_ms else None
    return ratios


def _storage(found: Explanation) -> Iterator[str]:
    ratios = csr_ratios(found)
    if not ratios:
        return
    threads = f"{found.num_threads} thread{'' if found.num_threads == 1 else 's'}"
    yield (
        f"On this host's CPU ({threads}, f32), the layers' matrix products with weights stored as CSR take, of the time"
        f" of dense ones, {_by_sparsity((sparsity, ratio) for sparsity, (ratio, _) in ratios.items())}."
    )
    if of_device := [(sparsity, ratio) for sparsity, (_, ratio) in ratios.items() if ratio is not None]:
        yield f"Of the time that the device takes for the same layers, they take {_by_sparsity(of_device)}."
    if own := [comparison for comparison in found.storage if comparison.desired_sparsity is None]:
        ratio = sum(c.csr_ms for c in own) / sum(c.dense_ms for c in own)
        low, high = min(c.sparsity for c in own), max(c.sparsity for c in own)
        yield (
            f"With the zeros that this schedule makes ({low:.0%} to {high:.0%} of a layer), they take {ratio:.2f} of"
            " the time of dense ones."
        )


def _by_sparsity(ratios: Iterable[tuple[float, float]]) -> str:
    listed = list(ratios)
    told = ", ".join(f"{ratio:.2f} at {sparsity:.0%}" for sparsity, ratio in listed)
    pays = next((sparsity for sparsity, ratio in listed if ratio < 1), None)
    return f"{told}: sparse storage pays {'at none of these sparsities' if pays is None else f'from {pays:.0%} on'}"


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - _NUM_NAMES
    return ", ".join(names[:_NUM_NAMES]) + (f" and {rest} more" if rest > 0 else "")


def _with_filters(layer: LayerComparison) -> str:
    """Return ``layer1.0.conv1 (5 of 16 filters)`` for a layer that has lost some, else its name."""
    if layer.thinned_shape is None or layer.thinned_shape[0] == layer.shape[0]:
        return layer.name
    return f"{layer.name} ({layer.thinned_shape[0]} of {layer.shape[0]} filters)"
