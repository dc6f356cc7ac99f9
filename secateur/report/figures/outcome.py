"""What was found: the front, the progress of the search, size against latency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from secateur.report.chart import COLORS, Bound, Figure, LeftOut, Plot, Series, plottable
from secateur.report.facts import Facts, name_of
from secateur.report.figures.by_kind import Placed, constraint_bounds, interval_of, metric, omitted, placed, scatter
from secateur.report.formats import title_of

_SIZES = {"num_params": "params", "macs": "MACs", "size_bytes": "bytes of the ONNX file"}


def trade_off(facts: Facts) -> Figure | LeftOut:
    """One metric against another: the objectives with their front, or the only objective against top1."""
    x, y = _axes(facts)
    is_front = len(facts.objectives) > 1
    title = "Pareto front" if is_front else f"Trade-off of {title_of(x)} and {title_of(y)}"
    champion = [facts.champion] if facts.champion else []
    points = placed((*facts.rows, *facts.baselines, *champion), metric(x), metric(y))
    if not points:
        return LeftOut(title=title, reason=omitted(points, facts) or "There is no record yet.")
    panel = scatter(
        facts,
        points,
        (title_of(x), title_of(y)),
        x_interval=interval_of(x),
        y_interval=interval_of(y),
        lines=_front(points, facts, x) if len(facts.objectives) == 2 else (),
        bounds=[*constraint_bounds(facts, x, "x"), *constraint_bounds(facts, y, "y")],
        has_labels=True,
    )
    reading = "Up and to the left is better." if is_front and x == "latency_ratio" else ""
    return Figure(
        name="trade-off",
        title=title,
        reading=f"{reading} Bars are 95 % intervals; a dashed line is a constraint, the shaded side breaks it.".strip(),
        panels=(panel,),
        note=_notes(panel, points, facts),
    )


def progress(facts: Facts) -> Figure | LeftOut:
    """Each objective, trial by trial, with the best so far (the dissertation's Figures 4.2 and 4.3)."""
    wanted = list(dict.fromkeys([*facts.objectives, "latency_ratio", "top1"]))
    panels = [found for name in wanted if (found := _progress(facts, name)) is not None]
    if not panels:
        return LeftOut(title="Progress", reason=omitted([], facts) or "There is no trial yet.")
    return Figure(
        name="progress",
        title="Progress",
        reading="Each trial by its number; the line is the best so far among trials that keep the constraints.",
        panels=tuple(panels),
    )


def _progress(facts: Facts, name: str) -> Plot | None:
    points = placed(facts.in_order, lambda row: float(row.record.index), metric(name))
    if not points:
        return None
    direction = facts.objectives.get(name, "maximize" if name == "top1" else "minimize")
    best: list[tuple[float, float]] = []
    for row, number, value in points:
        is_better = not best or (value < best[-1][1] if direction == "minimize" else value > best[-1][1])
        if row.is_feasible and is_better:
            best.append((number, value))
    if best:
        best.append((float(max(row.record.index for row in facts.rows)), best[-1][1]))
    known = [(row, plottable(row.metrics.get(name))) for row in facts.baselines]
    baselines = [Bound(axis="y", value=v, text=name_of(row), operator=None) for row, v in known if v is not None]
    return scatter(
        facts,
        points,
        ("trial", title_of(name)),
        y_interval=interval_of(name),
        lines=_line("best so far", best, "hv"),
        bounds=[*constraint_bounds(facts, name, "y"), *baselines],
    )


def size(facts: Facts) -> Figure | LeftOut:
    """Parameters, multiply-accumulates and bytes against latency."""
    rows = (*facts.rows, *facts.baselines)
    panels = tuple(
        scatter(facts, points, (title, title_of("latency_ratio")), y_interval=interval_of("latency_ratio"))
        for name, title in _SIZES.items()
        if (points := placed(rows, metric(name), metric("latency_ratio")))
    )
    if not panels:
        return LeftOut(title="Size and latency", reason="No network was measured yet.")
    return Figure(
        name="size",
        title="Size and latency",
        reading="Where points of one size differ in height, size does not tell latency: it must be measured.",
        panels=panels,
    )


def _axes(facts: Facts) -> tuple[str, str]:
    """Choose what is plotted: what is minimised to the right, what is maximised upwards."""
    objectives = list(facts.objectives)
    if len(objectives) == 1:
        return ("latency_ratio" if objectives == ["top1"] else objectives[0]), "top1"
    x = next((name for name in objectives if facts.objectives[name] == "minimize"), objectives[0])
    return x, next(name for name in objectives if name != x)


def _front(points: Sequence[Placed], facts: Facts, x: str) -> list[Series]:
    corners = sorted((at, up) for row, at, up in points if row.is_on_front)
    return _line("front", corners, "hv" if facts.objectives[x] == "minimize" else "vh")


def _line(name: str, corners: Sequence[tuple[float, float]], shape: Literal["hv", "vh"]) -> list[Series]:
    if not corners:
        return []
    xs, ys = [x for x, _ in corners], [y for _, y in corners]
    return [Series(name=name, xs=xs, ys=ys, color=COLORS["front"], line=shape)]


def _notes(panel: Plot, points: Sequence[Placed], facts: Facts) -> str:
    outside = f"{panel.num_outside:,} points lie outside of the closer view." if panel.has_focus else ""
    return f"{outside} {omitted(points, facts)}".strip()
