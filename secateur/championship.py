"""What is found out about a study's champion: contests, promotions, nights. Written as JSON, as all records are."""

from __future__ import annotations

from typing import Any, Literal

from secateur.results import Interval, LatencyReport, Record, TestScores, TrialRecord


class Contest(Record):
    """The best trials compete, retrained with fresh seeds. Written before the first of them is."""

    schema_version: Literal[1] = 1
    number: int
    """From 1; each has looked at the same second validation part."""
    trials: tuple[str, ...]
    """Labels, by the study's rule from best to worst."""
    seeds: tuple[int, ...]
    """Each trial is retrained with each of them; nobody has used them before."""
    margin: float
    """Points of top1 by which a contender may be worse than the unpruned network."""
    began_at: str
    verdicts: tuple[Verdict, ...] = ()
    """One for each trial; empty before all are known."""
    winner: str | None = None
    """Label of the best trial that passed."""

    @property
    def contenders(self) -> tuple[str, ...]:
        """Labels of the networks: ``12-1`` is trial 12 with the first fresh seed."""
        return tuple(label for trial in self.trials for label in self.networks_of(trial))

    def networks_of(self, trial: str) -> tuple[str, ...]:
        """Return the labels of one trial's networks, by seed."""
        return tuple(f"{trial}-{number}" for number in range(1, len(self.seeds) + 1))

    @property
    def is_decided(self) -> bool:
        """All that it takes was done."""
        return bool(self.verdicts)

    @property
    def winning_verdict(self) -> Verdict | None:
        """The winner's."""
        return next((verdict for verdict in self.verdicts if verdict.trial == self.winner), None)


class Examination(Record):
    """One network of a contest (or the unpruned one) before the second validation part."""

    label: str
    images: str
    """Artifact key of the images as the device is given them, and their labels."""
    parity: float
    """Of the stored ONNX file and the stored weights: max |torch - onnx| / max |torch|, on some of those images."""
    hits: str | None = None
    """What the device makes of each image, in its own precision: 1 for right, 0 for wrong."""
    published: TestScores | None = None
    """On what is left of the test part."""


class Difference(Record):
    """Of top1 to the unpruned network's, in points, with its interval."""

    estimate: float
    low: float
    high: float
    confidence: float
    """Of the two-sided interval: 0.95 for one contender, more for several."""


class Verdict(Record):
    """What became of one trial in a contest."""

    trial: str
    problems: tuple[str, ...]
    """Why it cannot be champion, a sentence each; empty: it passed."""
    network: str | None = None
    """Which of its networks stands for it: the median by top1 on the first validation part."""
    top1: tuple[float, ...] = ()
    """Of its networks on the second validation part, by seed, as the device computes them."""
    unpruned_top1: float | None = None
    difference: Difference | None = None
    latency_ratio: Interval | None = None
    parity: float | None = None
    """The worst of its networks'."""
    num_images: int = 0


class Promotion(Record):
    """A champion, with all that there is to say of it: complete even when the study begins anew."""

    schema_version: Literal[1] = 1
    promoted_at: str
    study: dict[str, Any]
    """As run."""
    contest: Contest
    verdict: Verdict
    record: TrialRecord
    """Of the network."""
    unpruned: TrialRecord
    test: TestScores
    unpruned_test: TestScores
    replaced: int | None = None
    """Index, in the alias's history, of the promotion that held before; None: there was none."""


class Alias(Record):
    """A name that points to a network; its history is kept."""

    history: tuple[Promotion, ...]
    """From the first to the last."""
    current: int
    """Index of the promotion that holds."""

    @property
    def champion(self) -> Promotion:
        """The promotion that holds."""
        return self.history[self.current]

    @property
    def replaced(self) -> frozenset[int]:
        """Indices of the promotions that it can be rolled back to, one after the other."""
        before = self.champion.replaced
        return (
            frozenset()
            if before is None
            else frozenset({before}) | Alias(history=self.history, current=before).replaced
        )


class Night(Record):
    """One host's measurement of a study's networks, again."""

    schema_version: Literal[1] = 1
    place: str
    """The deployment that measured, or ``here``."""
    measured_at: str
    networks: dict[str, str]
    """What was measured: ``unpruned``, ``off_the_shelf``, ``champion`` -> artifact key of the ONNX file."""
    reports: dict[str, LatencyReport]
    """Of all but the unpruned network, which they were paired with."""
