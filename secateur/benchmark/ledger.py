"""What the host's energy was used for, shared out among those who work at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from secateur.benchmark.runner.energy import Meter, find_meter

SETTLE_S = 60.0
"""RAPL's counters may begin anew every few minutes."""


@dataclass(eq=False)
class Account:
    """Of one piece of work."""

    joules: float | None = None
    """Its share so far: of equal parts for all who worked at the same time; None where the host counts no energy."""

    def under(self, phase: str) -> dict[str, float]:
        """Return the energy by phase, as a trial's record has it."""
        return {} if self.joules is None else {phase: self.joules}


class EnergyLedger:
    """The energy of this host, while somebody in this process works.

    Args:
        meter: Of the host; None where it counts no energy.
    """

    def __init__(self, meter: Meter | None) -> None:
        self._meter = meter
        self._open: list[Account] = []
        self._writing = threading.Lock()

    @contextmanager
    def account(self) -> Iterator[Account]:
        """Charge what the context uses; the account is complete when it ends."""
        account = Account()
        if self._meter is None:
            yield account
            return
        is_done = threading.Event()
        keeper = threading.Thread(target=self._keep, args=(self._meter, is_done), daemon=True)
        self._settle(self._meter, lambda: self._open.append(account))
        keeper.start()
        try:
            yield account
        finally:
            is_done.set()
            keeper.join()
            self._settle(self._meter, lambda: self._open.remove(account))

    def _keep(self, meter: Meter, is_done: threading.Event) -> None:
        while not is_done.wait(SETTLE_S):
            self._settle(meter, lambda: None)

    def _settle(self, meter: Meter, then: Callable[[], None]) -> None:
        """Share out what was used since the last time, and change who is working."""
        with self._writing:
            if self._open:
                joules = meter.joules() / len(self._open)
                for account in self._open:
                    account.joules = (account.joules or 0.0) + joules
            then()
            if self._open:
                meter.start()


@cache
def energy_ledger() -> EnergyLedger:
    """Return this process's."""
    return EnergyLedger(find_meter())
