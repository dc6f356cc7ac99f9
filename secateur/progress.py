"""Where long work says how far it is; whoever shows it decides how.

Domain code calls `track`; the command line installs a `Display` (bars on a terminal, lines elsewhere).
Without one, nothing is shown. Whoever may have to hold work up does so where it moves on: see `calling_between`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol


class Bar(Protocol):
    """One piece of work in progress."""

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        """Move on by `amount`; `note` is a short remark beside the bar, such as the current top1."""


class Display(Protocol):
    """Shows bars, and messages between them."""

    @contextmanager
    def bar(self, description: str, total: float | None) -> Iterator[Bar]:
        """Show a bar until the context ends; `total` None: of unknown length."""

    def message(self, text: str) -> None:
        """Show one line that stays."""


class Silent:
    """Shows nothing."""

    @contextmanager
    def bar(self, description: str, total: float | None) -> Iterator[Bar]:  # noqa: ARG002
        """Show no bar."""
        yield self

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        """Go on, unseen."""

    def message(self, text: str) -> None:
        """Keep it to itself."""


_display: ContextVar[Display] = ContextVar("secateur_display", default=Silent())  # noqa: B039 (it has no state)


@contextmanager
def show_on(display: Display) -> Iterator[None]:
    """Send all progress inside this context (threads of `asyncio.to_thread` included) to `display`."""
    token = _display.set(display)
    try:
        yield
    finally:
        _display.reset(token)


_between: ContextVar[Callable[[], None] | None] = ContextVar("secateur_between", default=None)


@contextmanager
def calling_between(call: Callable[[], None]) -> Iterator[None]:
    """Call `call` whenever work tracked inside this context has moved on; it may take its time."""
    token = _between.set(call)
    try:
        yield
    finally:
        _between.reset(token)


@dataclass(frozen=True)
class _CallingBar:
    _bar: Bar
    _call: Callable[[], None]

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        self._bar.advance(amount, note=note)
        self._call()


@contextmanager
def track(description: str, total: float | None = None) -> Iterator[Bar]:
    """Report progress of one piece of work, in whatever unit `total` is."""
    call = _between.get()
    with _display.get().bar(description, total) as bar:
        yield bar if call is None else _CallingBar(bar, call)


def message(text: str) -> None:
    """Tell the user one line."""
    _display.get().message(text)
