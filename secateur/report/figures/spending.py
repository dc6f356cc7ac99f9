"""Where the wall-clock time went."""

from __future__ import annotations

from secateur.report.chart import COLORS, Axis, Bars, Figure, LeftOut
from secateur.report.facts import Facts
from secateur.report.formats import duration_text
from secateur.report.wall_clock import account

_TITLE = "Where the wall-clock time went"
_AT_ONCE = 1.05


def wall_clock(facts: Facts) -> Figure | LeftOut:
    """Every second between the first trial's beginning and the last one's end."""
    found = account(facts)
    if found is None or found.total_s <= 0:
        return LeftOut(title=_TITLE, reason="No trial has ended yet.")
    at_once = f" Work was done {found.overlap:.2f}-fold at once." if found.overlap > _AT_ONCE else ""
    return Figure(
        name="wall-clock",
        title=_TITLE,
        reading="The parts add up to the time from the first trial's beginning to the last one's end."
        " Waiting and orchestration: a trial was under way, but none of its phases.",
        panels=(
            Bars(
                x=Axis(title="seconds", range=(0.0, 1.05 * max(found.parts.values()))),
                labels=tuple(found.parts),
                groups=(("seconds", COLORS["front"], tuple(found.parts.values())),),
                texts=(tuple(f"{duration_text(s)}, {s / found.total_s:.1%}" for s in found.parts.values()),),
            ),
        ),
        note=f"{duration_text(found.total_s)} in all.{at_once}",
    )
