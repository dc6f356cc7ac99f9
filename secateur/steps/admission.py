"""Who is admitted to training: candidates are measured before, and those that cannot win end here."""

from __future__ import annotations

from collections.abc import Sequence

from secateur.admissibility import schedule_of
from secateur.config import Study
from secateur.findings import Premise
from secateur.identity import reshaping_later
from secateur.parameters import most_epochs, training_with
from secateur.prospects import DEFAULT_SHIFT, Prospects
from secateur.results import TrialRecord
from secateur.steps.record import now
from secateur.store import StudyFiles


def is_gated(study: Study, premise: Premise | None) -> bool:
    """Tell whether candidates are measured, and judged, before they are trained.

    A premise that was tested decides, unless the study does without a gate.
    """
    num_epochs = most_epochs(study)
    if num_epochs == 0 or study.gate is False:
        return False
    if reshaping_later(schedule_of(study), num_epochs):
        return False
    return bool(study.gate) if premise is None else premise.holds


def shift_of(premise: Premise | None) -> float:
    """Return by how much training may change a latency, relatively."""
    return DEFAULT_SHIFT if premise is None else premise.largest_change


def admit(files: StudyFiles, study: Study, labels: Sequence[str]) -> list[str]:
    """Judge trials that were measured untrained, and write their records.

    A judgement stands: a trial that was judged, and whose training was interrupted, is not judged again. Replicates are
    there to be known, and not judged.

    Returns:
        The labels of those that are to go on.
    """
    results = files.results()
    shift = shift_of(files.read_premise())
    records = [trial for trial in results.trials if trial.label in set(labels)]

    def prospects(record: TrialRecord) -> Prospects:
        return Prospects.of(results, training_with(study.training, record.parameters).epochs, shift)

    judged = [_judged(files, prospects(record), record) if _is_to_be_judged(record) else record for record in records]
    return [record.label for record in judged if not record.is_finished]


def _is_to_be_judged(record: TrialRecord) -> bool:
    is_measured = record.state == "proposed" and record.latency is not None
    return is_measured and record.gate is None and record.replicate_of is None


def _judged(files: StudyFiles, prospects: Prospects, record: TrialRecord) -> TrialRecord:
    gate = prospects.gate(record)
    goes_on = gate.can_win or gate.is_audit
    record = record.model_copy(
        update={"gate": gate} | ({} if goes_on else {"state": "gated", "finished_at": now()}),
    )
    files.write_record(record)
    return record
