"""All records as a table: CSV and Parquet."""

from __future__ import annotations

import csv
import io

import pytest

from secateur.report import render_csv
from tests.factories import make_record, make_results


def test_csv_has_a_line_for_each_record_the_baselines_first() -> None:
    rows = list(csv.DictReader(io.StringIO(render_csv(make_results()))))
    assert [row["trial"] for row in rows][:3] == ["unpruned", "off_the_shelf", "5"]
    assert len(rows) == 24
    assert rows[2]["latency_ratio"].startswith("0.528")
    assert rows[2]["filter_pruner_70.desired_sparsity"] == "0.8567"
    assert next(row for row in rows if row["trial"] == "4")["top1"] == ""
    assert render_csv(make_results([], baselines={})) == "trial\n"


def test_parquet_holds_the_same_with_types() -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="secateur[parquet] is not installed")
    from secateur.report import render_parquet

    mixed = [make_record(0, parameters={"a.b": 1}), make_record(1, parameters={"a.b": 0.5})]
    table = parquet.read_table(io.BytesIO(render_parquet(make_results(mixed)))).to_pylist()
    assert [row["a.b"] for row in table if row["trial"] in "01"] == [1.0, 0.5]
    usual = parquet.read_table(io.BytesIO(render_parquet(make_results()))).to_pylist()
    assert len(usual) == 24
    assert usual[2]["is_on_front"] is True
