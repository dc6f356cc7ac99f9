"""How each group's sparsity goes with latency and top1, over quasi-random points (as the dissertation's Table 4.1).

    python benchmarks/correlations.py benchmarks/results/search-table.csv [benchmarks/results/recovery.json]

Pearson's r with its 95 % interval by Fisher's transformation. The table (see benchmarks/search.py) has latency and the
top1 of recalibrated networks; the results of benchmarks/recovery.py have top1 right after pruning, too.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from recovery import SPARSITIES, Results
from scipy.stats import pearsonr
from search_table import GROUPS, Table

Columns = Mapping[str, Sequence[float]]
"""Name -> one value for each network."""


def of_table(table: Table) -> tuple[Columns, Columns]:
    """Return sparsities by group, and metrics, of a table's networks."""
    sparsities = {group: [entry.sparsities[i] for entry in table.entries] for i, group in enumerate(GROUPS)}
    ratio, top1 = ([getattr(entry, name) for entry in table.entries] for name in ("latency_ratio", "top1"))
    return sparsities, {"latency ratio": ratio, "top1, recalibrated": top1}


def of_recovery(results: Results) -> tuple[Columns, Columns]:
    """Return sparsities by group, and metrics, of the networks that are spread over the whole space."""
    networks = [network for key, network in results.get("networks").items() if key.isdecimal()]
    sparsities = {g: [n["parameters"][name] for n in networks] for g, name in zip(GROUPS, SPARSITIES, strict=True)}
    steps = {"top1, right after pruning": "pruned", "top1, recalibrated": "recalibrated"}
    return sparsities, {title: [network[step]["top1"] for network in networks] for title, step in steps.items()}


def correlation(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Return Pearson's r and its 95 % interval (Fisher 1921)."""
    found = pearsonr(xs, ys)
    interval = found.confidence_interval(0.95)
    return f"{found.statistic:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def show(sparsities: Columns, metrics: Columns) -> None:
    """Print a table: a row for each metric, a column for each group."""
    num_networks = len(next(iter(sparsities.values())))
    print(f"\n| {num_networks} networks |" + "".join(f" {group} |" for group in sparsities))
    print("|" + " --- |" * (1 + len(sparsities)))
    for title, values in metrics.items():
        print(f"| {title} | {' | '.join(correlation(column, values) for column in sparsities.values())} |")


def main() -> None:
    """Print the correlations of a table, and of recovered networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("recovery", type=Path, nargs="?")
    options = parser.parse_args()
    show(*of_table(Table(options.table)))
    if options.recovery is not None:
        show(*of_recovery(Results(options.recovery)))


if __name__ == "__main__":
    main()
