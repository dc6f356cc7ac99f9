"""Prefect flows: each file is a deployment, and reads as a list of steps.

`run_study` and `run_baseline` run one from Python.
"""

from flows.local_run import run_baseline, run_study

__all__ = ["run_baseline", "run_study"]
