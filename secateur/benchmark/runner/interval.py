"""The statistics: an estimate with its interval, summaries of timings, and the test for drift."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

NUM_RESAMPLES = 1000
MIN_SAMPLES_P99 = 1000
"""Ten samples lie beyond the 99th percentile then; of fewer, it would be one sample's word."""


def paired_ratios(
    model_s: list[float], reference_s: list[float], was_interrupted: list[bool], min_rounds: int
) -> np.ndarray[Any, Any]:
    """Return a model's block times over the reference's, paired by round.

    Only the rounds that nobody interrupted count, if they are at least `min_rounds`; else all do. (An interruption
    is likelier and weighs less in the longer of two blocks: on a busy machine that alone moves a ratio by 1 %.)

    Args:
        model_s: The shortest total latency in each round's block.
        reference_s: The reference's, in at least as many rounds.
        was_interrupted: Whether another process was given the core in one of the two blocks of the round.
        min_rounds: How many quiet rounds are enough.
    """
    ratios = np.asarray(model_s) / np.asarray(reference_s[: len(model_s)])
    quiet: np.ndarray[Any, Any] = ratios[~np.asarray(was_interrupted, dtype=bool)]
    return quiet if len(quiet) >= min_rounds else ratios


def bootstrap_medians(values: np.ndarray[Any, Any], rng: np.random.Generator, size: int) -> np.ndarray[Any, Any]:
    """Return the medians of `size` resamples of `values`, drawn with replacement.

    A resample of the sorted values x has the median x[floor(n U)], where U is the middle order statistic of n uniform
    numbers: a Beta variable (Maritz and Jarrett 1978, A note on estimating the variance of the sample median). Drawing
    it is exact and costs nothing of n; for even n the two middle ones are drawn jointly.

    Args:
        values: `n` finite numbers, n >= 1, in any order.
        rng: The source of chance.
        size: How many resamples.
    """
    ordered = np.sort(values)
    n = len(ordered)
    rank = (n + 1) // 2
    lower = rng.beta(rank, n - rank + 1, size)
    upper = lower if n % 2 else lower + (1 - lower) * rng.beta(1, n - rank, size)
    indices = np.minimum((np.stack([lower, upper]) * n).astype(int), n - 1)
    medians: np.ndarray[Any, Any] = ordered[indices].mean(axis=0)
    return medians


def hierarchical_interval(processes: list[np.ndarray[Any, Any]], rng: np.random.Generator) -> dict[str, float]:
    """Return the mean of the processes' medians, its 95 % percentile-bootstrap interval and its standard error.

    A compilation is faster or slower than another of the same model, and more blocks do not tell by how much: so
    processes are drawn (Kalibera and Jones 2013, Rigorous benchmarking in reasonable time), and not the blocks within
    them, whose noise the processes' medians hold already (Davison and Hinkley 1997, Bootstrap methods and their
    application, sec. 3.8). Draws of P processes vary by (P - 1) / P of what is to be told, so their deviations are
    widened by the root of its inverse; the interval, as few processes also misjudge how much they differ, by Student's
    quantile over the normal one (Hesterberg 2015, What teachers should know about the bootstrap, sec. 4.3). Of one
    process, the blocks speak.

    Args:
        processes: For each process the paired ratios of its blocks, at least one, in any order.
        rng: The source of chance.
    """
    num_processes = len(processes)
    medians = np.array([np.median(ratios) for ratios in processes])
    estimate = float(medians.mean())
    if num_processes == 1:
        draws = bootstrap_medians(processes[0], rng, NUM_RESAMPLES)
    else:
        chosen = rng.integers(num_processes, size=(NUM_RESAMPLES, num_processes))
        draws = estimate + (medians[chosen].mean(axis=1) - estimate) * math.sqrt(num_processes / (num_processes - 1))
    wider = draws if num_processes == 1 else estimate + student_factor(num_processes - 1) * (draws - estimate)
    low, high = np.percentile(wider, [2.5, 97.5])
    return {
        "estimate": estimate,
        "low": min(float(low), estimate),
        "high": max(float(high), estimate),
        "standard_error": float(draws.std()),
    }


def student_factor(num_degrees: int) -> float:
    """Return the 97.5 % quantile of Student's distribution over the normal one.

    By its expansion in the inverse of the degrees of freedom (Abramowitz and Stegun 1964, eq. 26.7.5): too small by
    11 % for one degree, by 0.7 % for two, by 0.1 % and less for more.
    """
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    factor = 1.0
    for power, term in enumerate(terms, start=1):
        factor += term / num_degrees**power / z
    return factor


def half_width(interval: dict[str, float]) -> float:
    """Return half the interval's width, relative to the estimate."""
    return (interval["high"] - interval["low"]) / 2 / interval["estimate"]


def quantiles(samples_ms: list[float]) -> dict[str, Any]:
    """Summarise timings; `p99` is None of fewer than a thousand."""
    p50, p90, p99 = np.percentile(samples_ms, [50, 90, 99]).tolist()
    return {
        "p50": p50,
        "p90": p90,
        "p99": p99 if len(samples_ms) >= MIN_SAMPLES_P99 else None,
        "mean": float(np.mean(samples_ms)),
        "min": float(np.min(samples_ms)),
        "num_samples": len(samples_ms),
    }


def drift(values: np.ndarray[Any, Any]) -> dict[str, float]:
    """Test whether values in the order of time rise or fall.

    Args:
        values: `n` numbers, n >= 4, in the order they were taken.

    Returns:
        `change`: median of the later half / of the earlier half - 1; `p_value`: two-sided, of Spearman's rank
        correlation with time, by its normal approximation (1 where all values are equal).
    """
    half = len(values) // 2
    change = float(np.median(values[-half:]) / np.median(values[:half]) - 1)
    ranks = _ranks(values)
    deviation = ranks.std()
    if deviation == 0:
        return {"change": change, "p_value": 1.0}
    times = np.arange(len(values))
    correlation = float(((ranks - ranks.mean()) * (times - times.mean())).mean() / (deviation * times.std()))
    return {"change": change, "p_value": math.erfc(abs(correlation) * math.sqrt((len(values) - 1) / 2))}


def _ranks(values: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ranks from 0; equal values share their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts) - 1
    ranks: np.ndarray[Any, Any] = (last - (counts - 1) / 2)[inverse]
    return ranks
