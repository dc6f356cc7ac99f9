"""Under which conditions the figures came about."""

from __future__ import annotations

from secateur.report.circumstances import conditions
from secateur.report.facts import gather
from secateur.results import StudyResults
from tests.factories import make_results


def with_energy(results: StudyResults, **energy_j: float) -> StudyResults:
    trials = [trial.model_copy(update={"energy_j": energy_j}) for trial in results.trials[:2]]
    return results.model_copy(update={"trials": (*trials, *results.trials[2:])})


def test_the_energy_of_all_records_is_added_up() -> None:
    told = conditions(gather(with_energy(make_results(), compress=6000.0, measure=150.0)))
    assert told["energy of the host"] == "12.3 kJ (compress 12, measure 0.3)"


def test_where_no_host_counts_energy_none_is_told() -> None:
    assert "energy of the host" not in conditions(gather(make_results()))
