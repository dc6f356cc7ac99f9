"""What Ax and the libraries below it say on every import and every fit."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Beginnings of messages (regular expressions), each seen with Ax 1.3.1.
_KNOWN_WARNINGS = (
    r"`torch\.jit\.script` is deprecated",  # gpytorch
    r"ax\.service\.[\w.]+ has been moved",
    r"add_tracking_metric is deprecated",
    r"ObjectiveThreshold is deprecated",
    r"Passing `metric` to OutcomeConstraint is deprecated",
    r"The inplace keyword in DataFrame\.",
    r"The 'lsuffix' and 'rsuffix' keywords in DataFrame\.",
    r"The 'future\.infer_string' option is deprecated",
    r"To copy construct from a tensor",
    r"Encountered a `MultiObjective` without objective thresholds",  # Ax infers them
    r"Very small noise values detected",  # deterministic metrics
    r"A not p\.d\., added jitter",
    r"Data \(outcome observations\) is not standardized",  # a constant metric
    r"Optimization failed",  # botorch tries again
)


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the known warnings of Ax and the line it logs when it is imported; all others are shown."""
    logging.getLogger("ax.storage.sqa_store.with_db_settings_base").disabled = True
    with warnings.catch_warnings():
        for message in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield
