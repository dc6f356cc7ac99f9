"""Benchmarks are scripts, which import one another as siblings."""

from __future__ import annotations

import sys

from tests.runs import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
