"""What became of each layer: kept filters, time on the device, share of weights removed."""

from __future__ import annotations

from collections.abc import Mapping

from secateur.leaderboard import Row
from secateur.report.chart import COLORS, Axis, Bars, Figure, Heat, LeftOut, named_axis
from secateur.report.facts import Facts, name_of
from secateur.report.figures.by_kind import interval_of, metric, placed, scatter
from secateur.report.formats import title_of
from secateur.results import OFF_THE_SHELF, UNPRUNED, KeptFilters

_MAX_COLUMNS = 60
"""More networks than these are not told apart in one table."""
_MAX_BINS = 64
_MAX_OPERATIONS = 16


def kept(facts: Facts) -> Figure | LeftOut:
    """Share of filters kept, layer by layer, of the trials by latency."""
    rows = [row for row in (*facts.baselines, *_fastest(facts)) if row.record.label != UNPRUNED and _layers(row)]
    pruned = [name for name in _all_layers(rows) if any(_share(row, name) < 1 for row in rows)]
    if not pruned:
        return LeftOut(title="Kept filters", reason="No filter of any convolution was removed yet.")
    return Figure(
        name="kept",
        title="Kept filters",
        reading="A column for each network, the fastest trial first; a row for each layer that some network lost"
        " filters of, the network's input on top. Pale: little is left.",
        panels=(
            Heat(
                x=named_axis("network", [name_of(row) for row in rows]),
                y=named_axis("layer", pruned),
                xs=tuple(map(float, range(len(rows)))),
                ys=tuple(map(float, range(len(pruned)))),
                values=tuple(tuple(_share(row, name) for row in rows) for name in pruned),
                limits=(0.0, 1.0),
                told="{value:.0%} of filters kept",
            ),
        ),
        note=_left_out(facts, rows),
    )


def _fastest(facts: Facts) -> list[Row]:
    """Return the usable trials by latency; of too many, the front and then the best."""
    chosen = [row for row in facts.usable if _layers(row)][:_MAX_COLUMNS]
    return sorted(chosen, key=lambda row: row.metrics.get("latency_ratio", float("inf")))


def _left_out(facts: Facts, rows: list[Row]) -> str:
    num = sum(bool(_layers(row)) for row in facts.usable) - sum(row.record.method != "baseline" for row in rows)
    return f"{num:,} trials that rank lower are not shown." if num > 0 else ""


def _layers(row: Row) -> Mapping[str, KeptFilters]:
    return row.record.compressed.layers if row.record.compressed else {}


def _all_layers(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in _layers(row)))


def _share(row: Row, name: str) -> float:
    """Return what part of a layer's filters is kept; none of a layer that was removed as a whole."""
    layer = _layers(row).get(name)
    return 0.0 if layer is None else len(layer.kept) / layer.num_filters


def remaining(facts: Facts) -> Figure | LeftOut:
    """Which filters of each layer the best trial kept."""
    best = facts.best
    layers = (
        {} if best is None else {n: layer for n, layer in _layers(best).items() if len(layer.kept) < layer.num_filters}
    )
    if best is None or not layers:
        return LeftOut(title="What remains", reason="There is no best trial yet, or it lost no filter.")
    num_bins = min(_MAX_BINS, max(layer.num_filters for layer in layers.values()))
    return Figure(
        name="remaining",
        title=f"What remains of {name_of(best)}",
        reading="Each layer's filters in their order before pruning. Pale: removed.",
        panels=(
            Heat(
                x=Axis(title="position of the filter in its layer", range=(0.0, 1.0)),
                y=named_axis("layer", list(layers)),
                xs=tuple((i + 0.5) / num_bins for i in range(num_bins)),
                ys=tuple(map(float, range(len(layers)))),
                values=tuple(tuple(_kept_in_bins(layer, num_bins)) for layer in layers.values()),
                limits=(0.0, 1.0),
                told="{value:.0%} of filters kept",
            ),
        ),
    )


def _kept_in_bins(layer: KeptFilters, num_bins: int) -> list[float]:
    """Return the share of filters kept in each part of a layer; a filter may be wider than a part."""
    kept = set(layer.kept)
    shares = []
    for i in range(num_bins):
        first = i * layer.num_filters // num_bins
        last = max(first + 1, (i + 1) * layer.num_filters // num_bins)
        shares.append(sum(f in kept for f in range(first, last)) / (last - first))
    return shares


def latency(facts: Facts) -> Figure | LeftOut:
    """Time inside the device of each operation, the best trial's and the champion's beside the unpruned network's."""
    title = "Latency of each layer"
    unpruned = facts.baseline(UNPRUNED)
    compared = [row for row in facts.compared if _times(row)]
    if unpruned is None or not _times(unpruned) or len(compared) < 2:
        return LeftOut(title=title, reason="The device keeps no counters, or too little was measured yet.")
    names = list(_times(unpruned))
    longest = sorted(names, key=lambda name: -max(_times(row).get(name, 0.0) for row in compared))[:_MAX_OPERATIONS]
    shown = [name for name in names if name in longest]  # in the network's order
    times = [[_times(row).get(name, 0.0) for name in shown] for row in compared]
    others = [sum(_times(row).values()) - sum(of_row) for row, of_row in zip(compared, times, strict=True)]
    told = ", ".join(f"{name_of(row)} {other:.3f} ms" for row, other in zip(compared, others, strict=True))
    colors = {UNPRUNED: COLORS["unpruned"], OFF_THE_SHELF: COLORS["noisy"]}
    if facts.champion is not None:
        colors[facts.champion.record.label] = COLORS["champion"]
    return Figure(
        name="layer-latency",
        title=title,
        reading="Median time of each operation as the device counts it, the longest ones, from input to output. Fused"
        " operations stand under one name; one that the pruned network lacks has no bar.",
        panels=(
            Bars(
                x=_from_zero("ms", [v for of_row in times for v in of_row]),
                labels=tuple(map(_operation, shown)),
                groups=tuple(
                    (name_of(row), colors.get(row.record.label, COLORS["front"]), tuple(of_row))
                    for row, of_row in zip(compared, times, strict=True)
                ),
                texts=tuple(
                    tuple(f"{name_of(row)} {v:.4f} ms" for v in of_row)
                    for row, of_row in zip(compared, times, strict=True)
                ),
            ),
        ),
        note=f"All other operations together: {told}.",
    )


def _times(row: Row) -> dict[str, float]:
    times: dict[str, float] = {}
    for layer in row.record.latency.layers if row.record.latency else ():
        times[layer.name] = times.get(layer.name, 0.0) + layer.ms
    return times


def _operation(name: str) -> str:
    """Shorten a runtime's name of an operation: ``/layer1/layer1.0/conv1/Conv/WithoutBiases`` -> ``layer1.0/conv1``."""
    parts = [part for part in name.split("/") if part not in {"", "WithoutBiases", "Conv"}]
    return "/".join(
        part for i, part in enumerate(parts) if not (i + 1 < len(parts) and parts[i + 1].startswith(f"{part}."))
    )


def _from_zero(title: str, values: list[float]) -> Axis:
    return Axis(title=title, range=(0.0, 1.05 * max([*values, 1e-9])))


def sparsity(facts: Facts) -> Figure | LeftOut:
    """Share of all weights removed, against quality and latency."""
    unpruned = facts.baseline(UNPRUNED)
    total = unpruned.metrics.get("num_params", 0.0) if unpruned else 0.0
    rows = (*facts.rows, *facts.baselines)

    def removed(row: Row) -> float | None:
        return 1 - row.metrics["num_params"] / total if "num_params" in row.metrics and total else None

    panels = tuple(
        scatter(facts, points, ("weights removed, share", title_of(name)), y_interval=interval_of(name))
        for name in ("top1", "latency_ratio")
        if (points := placed(rows, removed, metric(name)))
    )
    if not panels:
        return LeftOut(title="Sparsity of the weights", reason="The unpruned network's size is not known yet.")
    return Figure(
        name="sparsity",
        title="Sparsity of the weights",
        reading="What is removed is gone: thinned networks hold no zeros. 0 is the unpruned network, 1 would be none.",
        panels=panels,
    )
