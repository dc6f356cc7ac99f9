"""How long a user waits for help: `secateur --help` and `secateur COMMAND --help`, each in a process of its own.

    python benchmarks/help.py [--repeats 5]

Python's own start stands beside it: whatever comes on top is ours. Half a second in all is what we allow ourselves.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

COMMANDS = ("", "sweep", "prune", "benchmark", "up")


def seconds(*arguments: str) -> float:
    """Return the wall-clock time of one call."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    """Print the median for each command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    rows = {"python -c pass": ("-c", "pass")}
    rows |= {f"secateur {name} --help".replace("  ", " "): _help(name) for name in COMMANDS}
    for title, arguments in rows.items():
        print(f"{title:<28} {statistics.median(seconds(*arguments) for _ in range(repeats)):.2f} s")


def _help(command: str) -> tuple[str, ...]:
    return ("-m", "secateur.cli.main", *([command] if command else []), "--help")


if __name__ == "__main__":
    main()
