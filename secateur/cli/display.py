"""Show progress on stderr: bars on a terminal, lines elsewhere. Results go to stdout."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from secateur.progress import Bar, Display, show_on

_LINE_EVERY_S = 10.0
_WORTH_A_LINE_S = 1.0


@contextmanager
def progress_on_stderr() -> Iterator[None]:
    """Show all progress made inside this context."""
    console = Console(stderr=True)
    if not console.is_terminal:
        with show_on(Lines()):
            yield
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}", style="dim"),
    )
    with Progress(*columns, console=console, transient=True) as progress, show_on(Bars(progress)):
        yield


class _RichBar:
    def __init__(self, progress: Progress, description: str, total: float | None) -> None:
        self._progress = progress
        self.task_id = progress.add_task(description, total=total, note="")

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        fields = {} if note is None else {"note": note}
        self._progress.update(self.task_id, advance=amount, **fields)  # type: ignore[arg-type]


class Bars(Display):
    """Bars that vanish when their work is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def bar(self, description: str, total: float | None) -> Iterator[Bar]:
        """Show a bar until the context ends."""
        bar = _RichBar(self._progress, description, total)
        try:
            yield bar
        finally:
            self._progress.remove_task(bar.task_id)

    def message(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, highlight=False, markup=False)


class _LineBar:
    def __init__(self, description: str, total: float | None) -> None:
        self._description, self._total = description, total
        self._done = 0.0
        self._note = ""
        self._started = self._told = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, amount: float = 1.0, *, note: str | None = None) -> None:
        with self._lock:
            self._done += amount
            self._note = note if note is not None else self._note
            if time.monotonic() - self._told >= _LINE_EVERY_S:
                self._told = time.monotonic()
                self._tell("")

    def finish(self) -> None:
        if (seconds := time.monotonic() - self._started) >= _WORTH_A_LINE_S:
            self._tell(f" ({seconds:.1f} s)")

    def _tell(self, suffix: str) -> None:
        amount = "" if self._total is None else f" {self._done:.4g}/{self._total:.4g}"
        note = f" {self._note}" if self._note else ""
        _print(f"{self._description}{amount}{note}{suffix}")


class Lines(Display):
    """A line now and then, and one when something that took a while is done: for logs."""

    @contextmanager
    def bar(self, description: str, total: float | None) -> Iterator[Bar]:
        """Print lines until the context ends."""
        bar = _LineBar(description, total)
        try:
            yield bar
        finally:
            bar.finish()

    def message(self, text: str) -> None:
        """Print a line."""
        _print(text)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
