"""What training did: curves, and metrics before it against those after."""

from __future__ import annotations

from secateur.leaderboard import Row
from secateur.report.chart import COLORS, SYMBOLS, Figure, LeftOut, Plot, Series, axis_of, plottable
from secateur.report.facts import KINDS, Facts, Kind, kind_of
from secateur.report.figures.by_kind import Read, metric, placed, scatter
from secateur.report.formats import title_of
from secateur.results import UNPRUNED

_NOT_RETRAINED = "The study does not retrain, or no network was retrained yet."
_FAINT: set[Kind] = {"infeasible", "noisy", "suspect", "stopped", "gated"}
_METRICS = ("top1", "top5", "loss")


def retraining(facts: Facts) -> Figure | LeftOut:
    """Validation top1 after each epoch of retraining; a training that was stopped ends in a cross."""
    curves = [(row, curve) for row in _retrained(facts) if (curve := _curve(row))]
    if not curves:
        return LeftOut(title="Training curves", reason=_NOT_RETRAINED)
    series = [
        _of_kind(facts, kind, of_kind)
        for kind in KINDS
        if (of_kind := [(row, curve) for row, curve in curves if kind_of(row) == kind])
    ]
    ends = [(row, curve[-1]) for row, curve in curves if row.record.state == "stopped"]
    if ends:
        series.append(
            Series(
                name="stopped here",
                xs=[x for _, (x, _) in ends],
                ys=[y for _, (_, y) in ends],
                color=COLORS["failed"],
                symbol=SYMBOLS["failed"][0],
                size=SYMBOLS["failed"][1],
                hovers=[row for row, _ in ends],
            )
        )
    values = [y for _, curve in curves for _, y in curve]
    last = max(x for _, curve in curves for x, _ in curve)
    return Figure(
        name="curves",
        title="Training curves",
        reading="0 is the pruned network, its batch normalisation recalibrated, before any training.",
        panels=(
            Plot(
                x=axis_of("epochs of retraining", [0.0, last]),
                y=axis_of("validation top1 %", values),
                series=tuple(series),
            ),
        ),
        note=f"{len(ends):,} trainings were stopped early." if ends else "",
    )


def _retrained(facts: Facts) -> list[Row]:
    """Return the pruned networks that were trained; how the unpruned one came about is another matter."""
    rows = [row for row in (*facts.baselines, *facts.rows) if row.record.label != UNPRUNED]
    return [row for row in rows if row.record.compressed and len(row.record.compressed.epochs) > 1]


def _curve(row: Row) -> list[tuple[float, float]]:
    epochs = row.record.compressed.epochs if row.record.compressed else ()
    return [(epoch.epoch + 1.0, top1) for epoch in epochs if (top1 := plottable(epoch.top1)) is not None]


def _of_kind(facts: Facts, kind: Kind, curves: list[tuple[Row, list[tuple[float, float]]]]) -> Series:
    """Return all curves of one kind as one line with gaps: hundreds of lines would be slow."""
    points = [(row, x, y) for row, curve in curves for x, y in (*curve, (curve[-1][0], None))]
    return Series(
        name=facts.words[kind],
        xs=[x for _, x, _ in points],
        ys=[y for _, _, y in points],
        color=COLORS[kind],
        line="linear",
        width=1.0 if kind in _FAINT else 1.8,
        opacity=0.5 if kind in _FAINT else 0.9,
        hovers=[row for row, _, _ in points],
    )


def before_and_after(facts: Facts) -> Figure | LeftOut:
    """Each quality metric before retraining against the same after it."""
    retrained = _retrained(facts)
    panels = []
    for name in _METRICS:
        if points := placed(retrained, _before(name), metric(name)):
            title = title_of(name)
            panels.append(scatter(facts, points, (f"{title} before", f"{title} after"), is_diagonal_shown=True))
    if not panels:
        return LeftOut(title="Before and after retraining", reason=_NOT_RETRAINED)
    return Figure(
        name="before-and-after",
        title="Before and after retraining",
        reading="On the dotted line nothing changed. If the points rise to the right, quality before tells that after.",
        panels=tuple(panels),
    )


def _before(name: str) -> Read:
    def read(row: Row) -> float | None:
        epochs = row.record.compressed.epochs if row.record.compressed else ()
        return float(getattr(epochs[0], name)) if epochs and epochs[0].epoch == -1 else None

    return read
