"""Steer a search away from networks that are known already: a trial of one would tell nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from secateur.config import ParameterValue
from secateur.results import TrialRecord
from secateur.search.space import Space

Parameters = Mapping[str, ParameterValue]
Identify = Callable[[Parameters], Hashable]
"""Tells which network remains at a point: equal answers, equal networks."""

_PATIENCE = 4096
"""So many points without a new network, beyond those of all trials, and a space is taken to be finished."""
_RADII = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Half the width of the boxes in which a new network is looked for; of the unit cube."""
_NUM_NEIGHBOURS = 64


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A point whose network is new."""

    parameters: Parameters
    num_repeats: int
    """Points that were passed over on the way to it."""


class KnownNetworks:
    """The networks of a study's trials, finished or not."""

    def __init__(self, identify: Identify, records: Iterable[TrialRecord]) -> None:
        """Note the networks of all trials so far."""
        self._identify = identify
        self._tried: set[Hashable] = set()
        self._labels: dict[Hashable, str] = {}
        for record in records:
            self.add(record.parameters, record.label)

    def label_of(self, parameters: Parameters) -> str | None:
        """Return the first trial of which the network at a point remained; None if it is new."""
        return self._labels.get(self._identify(parameters))

    def add(self, parameters: Parameters, label: str) -> None:
        """Note the network of a trial."""
        self._tried.add(frozenset(parameters.items()))
        self._labels.setdefault(self._identify(parameters), label)

    def new_among(self, points: Iterable[Parameters]) -> Iterator[Drawn]:
        """Yield the points of a sequence whose networks are new at that time; end where only repeats follow.

        A sequence begins anew whenever it is asked for; what was passed over before its last point that was tried has
        been counted with that one.
        """
        num_repeats = patience = 0
        for parameters in points:
            is_tried = frozenset(parameters.items()) in self._tried
            if not is_tried and self.label_of(parameters) is None:
                yield Drawn(parameters=parameters, num_repeats=num_repeats)
                num_repeats = patience = 0
                continue
            num_repeats = 0 if is_tried else num_repeats + 1
            patience += 1
            if patience - len(self._tried) == _PATIENCE:
                return

    def nearest_new(self, space: Space, parameters: Parameters) -> Parameters | None:
        """Return a point near another one, in the unit cube, whose network is new; None if there seems to be none."""
        centre = np.array(space.to_unit(parameters))
        offsets = 2 * qmc.Sobol(len(centre), scramble=False).random(_NUM_NEIGHBOURS) - 1
        for radius in _RADII:
            places = np.clip(centre + radius * offsets, 0.0, np.nextafter(1.0, 0.0))
            order = np.abs(places - centre).max(axis=1).argsort(kind="stable")
            candidates: Sequence[Parameters] = [space.from_unit(place) for place in places[order].tolist()]
            if (found := next((c for c in candidates if self.label_of(c) is None), None)) is not None:
                return found
        return None
