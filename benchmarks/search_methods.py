"""The searches that are compared: each a function from an oracle to the table's rows that it saw, in order.

A search begins with as many random points (ours: quasi-random) as a study does, and is then asked for one point after
the other; but ours proposes several at once, as it has to in a sweep.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import numpy as np
import optuna
from recovery import SPARSITIES
from scipy.stats import norm
from search_table import GROUPS, Oracle
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from secateur.results import (
    Compressed,
    DeviceFingerprint,
    Interval,
    KeptFilters,
    LatencyReport,
    Quantiles,
    Scores,
    TrialRecord,
)
from secateur.search.proposer import Point, propose
from secateur.search.space import FloatParameter

NUM_INITIAL = 2 * len(SPARSITIES)
POPULATION = 16
"""Of NSGA-II: with Optuna's default of 50, hardly a trial of 64 would be bred."""
NUM_CANDIDATES = 4096
"""Random points among which expected improvement is maximised."""
NO_DATE = "1970-01-01T00:00:00Z"

Method = Callable[[Oracle, int, int], list[int]]
"""Oracle, number of trials, seed -> row of each trial."""


def ours(oracle: Oracle, num_trials: int, seed: int) -> list[int]:
    """A study's own proposer, with all its defaults, asked for batches of new networks as a sweep asks.

    But it is not told what the study's own values are: the others do not begin with the expert's point either.
    """
    study = oracle.problem.study
    study = study.model_copy(update={"search": study.search.model_copy(update={"seed": seed})})
    baselines = {"baseline": {"latency_ratio": 1.0, "top1": oracle.unpruned_top1}}
    unknown = dict.fromkeys(oracle.problem.base_values)
    records: list[TrialRecord] = []
    rows: list[int] = []
    while len(rows) < num_trials:
        count = min(study.budget.parallel, num_trials - len(rows))
        for point in propose(study, unknown, records, baselines, count, oracle.problem.kept).points:
            rows.append(oracle.row(point.parameters))
            records.append(_record(oracle, rows[-1], point))
    return rows


def random_search(oracle: Oracle, num_trials: int, seed: int) -> list[int]:
    """Uniformly random points."""
    space, rng = oracle.problem.space, np.random.default_rng(seed)
    return [oracle.row(space.from_unit(rng.random(len(space.parameters)).tolist())) for _ in range(num_trials)]


def tpe(oracle: Oracle, num_trials: int, seed: int) -> list[int]:
    """Optuna's tree-structured Parzen estimator, both objectives (Ozaki et al. 2022)."""
    return _optuna(oracle, num_trials, optuna.samplers.TPESampler(n_startup_trials=NUM_INITIAL, seed=seed))


def nsga2(oracle: Oracle, num_trials: int, seed: int) -> list[int]:
    """Optuna's NSGA-II (Deb et al. 2002)."""
    return _optuna(oracle, num_trials, optuna.samplers.NSGAIISampler(population_size=POPULATION, seed=seed))


def _optuna(oracle: Oracle, num_trials: int, sampler: optuna.samplers.BaseSampler) -> list[int]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
    rows = []
    for _ in range(num_trials):
        trial = study.ask()
        rows.append(oracle.row({p.name: trial.suggest_float(p.name, p.low, p.high) for p in _ranges(oracle)}))
        entry = oracle.entries[rows[-1]]
        study.tell(trial, (entry.latency_ratio, entry.top1))
    return rows


def gp_ei(oracle: Oracle, num_trials: int, seed: int) -> list[int]:
    """Expected improvement of a weighted sum, by a Gaussian process (Snoek et al. 2012), as W&B's bayes does.

    Both terms of the sum are relative to the unpruned network, and weigh the same.
    """
    rng = np.random.default_rng(seed)
    ranges = _ranges(oracle)
    rows: list[int] = []
    tried_UP, costs = [], []
    for _ in range(num_trials):
        candidates_UP = rng.random((1 if len(rows) < NUM_INITIAL else NUM_CANDIDATES, len(ranges)))
        if len(rows) >= NUM_INITIAL:
            candidates_UP = candidates_UP[[_most_promising(np.array(tried_UP), np.array(costs), candidates_UP, seed)]]
        unit_P = candidates_UP[0]
        rows.append(oracle.row({p.name: p.from_unit(u) for p, u in zip(ranges, unit_P.tolist(), strict=True)}))
        entry = oracle.entries[rows[-1]]
        tried_UP.append(unit_P)
        costs.append(entry.latency_ratio + 1 - entry.top1 / oracle.unpruned_top1)
    return rows


def _most_promising(tried_NP: np.ndarray, costs_N: np.ndarray, candidates_UP: np.ndarray, seed: int) -> int:
    """Return the candidate of the greatest expected improvement over the lowest cost."""
    kernel = ConstantKernel() * Matern(length_scale=np.ones(tried_NP.shape[1]), nu=2.5) + WhiteKernel(1e-3)
    model = GaussianProcessRegressor(kernel, normalize_y=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a hyperparameter at its bound
        model.fit(tried_NP, costs_N)
    mean_U, std_U = model.predict(candidates_UP, return_std=True)
    gain_U = costs_N.min() - mean_U
    z_U = gain_U / np.maximum(std_U, 1e-12)
    return int(np.argmax(gain_U * norm.cdf(z_U) + std_U * norm.pdf(z_U)))


METHODS: Mapping[str, Method] = {
    "ours": ours,
    "random": random_search,
    "TPE": tpe,
    "NSGA-II": nsga2,
    "GP-EI": gp_ei,
}


def _ranges(oracle: Oracle) -> list[FloatParameter]:
    return [parameter for parameter in oracle.problem.space.parameters if isinstance(parameter, FloatParameter)]


def _record(oracle: Oracle, row: int, point: Point) -> TrialRecord:
    """Return the record a sweep would have written; what no search looks at is empty."""
    entry = oracle.entries[row]
    ratio = Interval(estimate=entry.latency_ratio, low=entry.low, high=entry.high, standard_error=entry.standard_error)
    time_ms = Quantiles(p50=entry.latency_ratio, p90=1.0, mean=1.0, min=1.0, num_samples=entry.num_rounds)
    device = DeviceFingerprint(
        profile="", device="", full_name="", runtime="", num_threads=None, precision="", host="", python=""
    )
    counts = zip(GROUPS, oracle.problem.num_filters, entry.kept, strict=True)
    return TrialRecord(
        study=oracle.problem.study.name,
        label=str(point.index),
        state="completed",
        method=point.method,
        parameters=dict(point.parameters),
        seed=0,
        compressed=Compressed(
            layers={group: KeptFilters(num_filters=n, kept=tuple(range(kept))) for group, n, kept in counts},
            num_params=0,
            macs=0,
            size_bytes=0,
            architecture=str(row),
            onnx=str(row),
            checkpoint=str(row),
            epochs=(),
            validation=Scores(top1=entry.top1, top5=100.0, loss=0.0, num_images=1),
            seconds={},
        ),
        latency=LatencyReport(
            latency_ratio=ratio,
            device_latency_ratio=None,
            total_latency_ms=time_ms,
            latency_ms=None,
            reference_total_latency_ms=time_ms,
            reference_latency_ms=None,
            num_rounds=entry.num_rounds,
            is_noisy=False,
            read_ms=0.0,
            compile_ms=0.0,
            first_inference_ms=0.0,
            size_bytes=0,
            device=device,
            conditions={},
        ),
        created_at=NO_DATE,
        finished_at=NO_DATE,
    )
