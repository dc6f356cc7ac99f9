"""Energy is shared out among those who work at once, and none is lost."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from secateur.benchmark import ledger
from secateur.benchmark.ledger import EnergyLedger


class Counted:
    """A meter that is read at known joules."""

    sensor = "made up"

    def __init__(self, *readings: float) -> None:
        self.readings: Iterator[float] = iter(readings)
        self.is_running = False

    def start(self) -> None:
        self.is_running = True

    def joules(self) -> float:
        assert self.is_running
        self.is_running = False
        return next(self.readings)


def test_who_works_alone_has_it_all_and_two_halve_it() -> None:
    meter = Counted(10.0, 6.0, 5.0, 1.0)
    books = EnergyLedger(meter)
    with books.account() as first:
        with books.account() as second:  # 10 J were used before
            pass  # 6 J together
        assert second.under("compress") == {"compress": 3.0}
    assert first.joules == pytest.approx(10.0 + 3.0 + 5.0)
    assert not meter.is_running
    with books.account() as third:
        pass
    assert third.joules == 1.0


def test_a_long_account_is_settled_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "SETTLE_S", 0.001)
    meter = Counted(*[1.0] * 1000)
    with EnergyLedger(meter).account() as account:
        while account.joules is None or account.joules < 5:
            pass
    assert account.joules >= 6


def test_without_a_meter_nothing_is_made_up() -> None:
    with EnergyLedger(None).account() as account:
        pass
    assert account.under("measure") == {}
