"""`python -m secateur.training JOBS_DIR OUT_DIR`: train a bundle where nothing else of secateur can be installed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from secateur.errors import InputError, SecateurError
from secateur.progress import Silent, show_on
from secateur.training.offline import train_jobs
from secateur.training.processes import is_first, together


class _Messages(Silent):
    """Shows messages alone, as lines on stderr."""

    def message(self, text: str) -> None:
        sys.stderr.write(f"{text}\n")


def main() -> None:
    """Train; say what became of it."""
    parser = argparse.ArgumentParser(prog="python -m secateur.training", description="Train prepared candidates.")
    parser.add_argument("jobs_dir", type=Path, metavar="JOBS_DIR", help="as `secateur bundle` wrote it")
    parser.add_argument("out_dir", type=Path, metavar="OUT_DIR", help="what goes back home")
    arguments = parser.parse_args()
    try:
        with show_on(_Messages()), together():
            done = train_jobs(arguments.jobs_dir, arguments.out_dir)
            if is_first():
                sys.stdout.write(f"{done.summary}\n")
    except SecateurError as exc:
        sys.stderr.write(f"secateur: {exc}\n")
        sys.exit(2 if isinstance(exc, InputError) else 1)


if __name__ == "__main__":
    main()
