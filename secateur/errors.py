"""Every error a caller may want to catch.

SecateurError
├── InputError (ValueError)          what a user wrote is wrong: file, field, flag, name
│   ├── StudyError                   a study or device profile
│   ├── ScheduleError                a compression schedule
│   ├── ModelError                   unknown model, weights that do not fit
│   ├── DatasetError                 unknown or absent dataset
│   └── JobError                     a job of an offline host, or its result, is damaged
├── ThinningError                    what is masked cannot be removed
├── TrainingError                    the loss is no longer a number
├── MachineError                     memory, a checkpoint: no fault of the network that is trained
├── ExportError                      the exported network differs from the trained one
│   └── UnsupportedError             the device lacks operations of the network
├── MeasurementError                 the runner failed, or was killed
│   └── DeviceBusyError              another measurement holds the device
├── SearchError                      no candidate could be generated
├── StoreError                       an object or a document could not be read or written
│   ├── NotFoundError (KeyError)     there is nothing under that key
│   ├── StoreUnavailableError        the store cannot be reached (worth a retry)
│   ├── StoreForbiddenError          the store refuses the credentials
│   └── StoreFullError               no space left
├── StudyBusyError                   another sweep of this study is running
├── StudyCancelledError              `secateur cancel` was called
├── DriftError                       a device or a network is not what it was the nights before
└── DispatchError                    a child flow did not complete
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SecateurError(Exception):
    """Base of all errors this package raises on purpose; its text says what to do."""


class InputError(SecateurError, ValueError):
    """What a user wrote is wrong.

    Attributes:
        problems: One line each, with file and line where there is one.
    """

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class StudyError(InputError):
    """A study or a device profile is wrong."""


class ScheduleError(InputError):
    """A compression schedule is wrong, or does not fit the model."""


class ModelError(InputError):
    """A model is unknown, or its weights do not fit."""


class DatasetError(InputError):
    """A dataset is unknown, absent or unusable."""


class JobError(InputError):
    """A job for an offline host, or what came back from there, is not what it should be."""


class ThinningError(SecateurError):
    """What is masked cannot be removed without changing what the network computes."""


class TrainingError(SecateurError):
    """Training or evaluation cannot go on: the network's outputs are no longer numbers."""


class MachineError(SecateurError):
    """Training cannot go on here, for want of memory or of a whole checkpoint; the network is not to blame."""


class ExportError(SecateurError):
    """The exported network computes something else than the one it came from."""


class UnsupportedError(ExportError):
    """The device lacks operations of the exported network."""


class MeasurementError(SecateurError):
    """A measurement could not be made; the text carries the runner's last words."""


class DeviceBusyError(MeasurementError):
    """Another measurement holds the device."""


class SearchError(SecateurError):
    """No further candidate could be generated."""


class StoreError(SecateurError):
    """The store could not read or write."""


class NotFoundError(StoreError, KeyError):
    """There is nothing under that key."""

    __str__ = Exception.__str__  # KeyError would show the repr


class StoreUnavailableError(StoreError):
    """The store cannot be reached; trying again may help."""


class StoreForbiddenError(StoreError):
    """The store refuses the credentials, or there are none."""


class StoreFullError(StoreError):
    """There is no space left in the store."""


class StudyBusyError(SecateurError):
    """Another sweep of the same study is running."""


class StudyCancelledError(SecateurError):
    """Somebody cancelled the study; everything recorded so far is kept."""


class DriftError(SecateurError):
    """A device, or a network on it, is no longer what the nights before predict."""


class DispatchError(SecateurError):
    """A child flow failed, crashed or was never picked up."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the nearest of `known`, or the known names if none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if near:
        return f" Did you mean {near[0]!r}?"
    return f" Known: {', '.join(names)}." if 0 < len(names) <= 12 else ""
