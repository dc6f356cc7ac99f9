"""Which document of a study stands where: the one place that knows.

::

    studies/<name>/study.yaml               the study as run
    studies/<name>/ax.json                  the optimiser's state
    studies/<name>/insight.json             what the optimiser's model says, for the report
    studies/<name>/control.json             whether it shall run, pause or end
    studies/<name>/lease.json               who runs it: see `secateur.store.lease`
    studies/<name>/baselines/<label>.json   records of the networks it is compared to
    studies/<name>/trials/<index>.json      records of its trials
    studies/<name>/report/
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, cast, get_args

import yaml
from pydantic import ValidationError

from secateur.errors import InputError, NotFoundError, StoreError
from secateur.insight import Insight
from secateur.results import BASELINES, StudyResults, TrialRecord
from secateur.store.json_documents import get_json, put_json
from secateur.store.protocol import Store

Control = Literal["run", "pause", "cancel"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_INDEX = re.compile(r"0|[1-9][0-9]*")
_NUM_READERS = 8


class StudyFiles:
    """The documents of one study."""

    def __init__(self, store: Store, name: str) -> None:
        """Look at a study; it need not exist.

        Raises:
            InputError: No study can have this name.
        """
        self.store = store
        self.name = name
        self._root = study_root(name)

    def exists(self) -> bool:
        """Tell whether the study was ever begun."""
        key = f"{self._root}/study.yaml"
        return key in self.store.list(key)

    def read_study_yaml(self) -> str:
        """Return the study as run.

        Raises:
            NotFoundError: There is no such study.
        """
        try:
            return self.store.get(f"{self._root}/study.yaml").decode()
        except UnicodeDecodeError as exc:
            raise StoreError(f"{self.store.url}: '{self._root}/study.yaml' is not UTF-8: {exc}.") from None

    def write_study_yaml(self, text: str) -> None:
        """Keep the study as run: from here on it exists."""
        self.store.put(f"{self._root}/study.yaml", text.encode())

    def read_record(self, label: str) -> TrialRecord:
        """Return the record of a trial (label: its index) or of a baseline.

        Raises:
            NotFoundError: There is none.
            StoreError: It is no record, or another's.
        """
        return self._read(self._record_key(label), label)

    def write_record(self, record: TrialRecord) -> None:
        """Keep a record, in place of an earlier one of the same label."""
        assert record.study == self.name
        self.store.put(self._record_key(record.label), record.model_dump_json(indent=1).encode())

    def trials(self) -> tuple[TrialRecord, ...]:
        """Return the records of all trials, by index."""
        prefix = f"{self._root}/trials/"
        names = [key.removeprefix(prefix).removesuffix(".json") for key in self.store.list(prefix)]
        labels = sorted(filter(_INDEX.fullmatch, names), key=int)  # what else lies there is no trial
        with ThreadPoolExecutor(_NUM_READERS) as readers:
            return tuple(readers.map(self.read_record, labels))

    def baselines(self) -> dict[str, TrialRecord]:
        """Return the records of the baselines known so far, by label."""
        keys = self.store.list(f"{self._root}/baselines/")
        return {label: self.read_record(label) for label in BASELINES if self._record_key(label) in keys}

    def results(self) -> StudyResults:
        """Return all that is known of the study.

        Raises:
            NotFoundError: There is no such study.
            StoreError: A document is not what it should be.
        """
        try:
            study = yaml.safe_load(self.read_study_yaml())
        except yaml.YAMLError as exc:
            raise StoreError(f"{self.store.url}: '{self._root}/study.yaml' is not YAML: {exc}.") from None
        if not isinstance(study, dict):
            raise StoreError(f"{self.store.url}: '{self._root}/study.yaml' holds no mapping, but {study!r:.80}.")
        return StudyResults(study=study, baselines=self.baselines(), trials=self.trials())

    def read_optimiser(self) -> dict[str, Any] | None:
        """Return the optimiser's state; None before it was first kept."""
        return self._read_json("ax.json")

    def write_optimiser(self, state: dict[str, Any]) -> None:
        """Keep the optimiser's state."""
        put_json(self.store, f"{self._root}/ax.json", state)

    def read_control(self) -> Control:
        """Return what somebody wants of the sweep."""
        document = self._read_json("control.json")
        action = document.get("action") if document is not None else "run"
        if action not in (known := get_args(Control)):
            raise StoreError(
                f"{self.store.url}: '{self._root}/control.json': 'action' must be one of {', '.join(known)},"
                f" got {action!r}. Delete it, or say 'secateur resume {self.name}'."
            )
        return cast(Control, action)

    def write_control(self, action: Control) -> None:
        """Say what the sweep shall do."""
        put_json(self.store, f"{self._root}/control.json", {"action": action})

    def read_report(self) -> dict[str, bytes]:
        """Return the files of the report, by name; empty before it was first written."""
        prefix = f"{self._root}/report/"
        return {key.removeprefix(prefix): self.store.get(key) for key in self.store.list(prefix)}

    def write_report(self, contents: Mapping[str, bytes]) -> None:
        """Keep the files of the report, by name, in place of an earlier one's."""
        prefix = f"{self._root}/report/"
        for name, data in contents.items():
            self.store.put(f"{prefix}{name}", data)
        for key in self.store.list(prefix):
            if key.removeprefix(prefix) not in contents:
                self.store.delete(key)

    def read_insight(self) -> Insight | None:
        """Return what the optimiser's model said last; None before it was first asked."""
        document = self._read_json("insight.json")
        try:
            return None if document is None else Insight.model_validate(document)
        except ValidationError:  # of another version: it can be asked again
            return None

    def write_insight(self, insight: Insight) -> None:
        """Keep what the optimiser's model says."""
        put_json(self.store, f"{self._root}/insight.json", insight.model_dump(mode="json"))

    def remove(self) -> None:
        """Delete the study's documents; objects and cached results stay, and so does the lease of who does this.

        `study.yaml` goes last: a study half removed still exists, and can be removed again.
        """
        last = f"{self._root}/study.yaml"
        for key in self.store.list(f"{self._root}/"):
            if key not in {last, lease_key(self.name)}:
                self.store.delete(key)
        self.store.delete(last)

    def _record_key(self, label: str) -> str:
        if label in BASELINES:
            return f"{self._root}/baselines/{label}.json"
        if not _INDEX.fullmatch(label):
            raise InputError(f"record label: expected a trial's index or one of {', '.join(BASELINES)}, got {label!r}.")
        return f"{self._root}/trials/{label}.json"

    def _read(self, key: str, label: str) -> TrialRecord:
        try:
            record = TrialRecord.model_validate_json(self.store.get(key))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            problem = f"{where}: {first['msg']}" if where else first["msg"]
        else:
            if (record.study, record.label) == (self.name, label):
                return record
            problem = f"it belongs to label {record.label!r} of study {record.study!r}"
        raise StoreError(
            f"{self.store.url}: {key!r} is not the record it should be: {problem}."
            " Restore it, or delete it, and the sweep will run it anew."
        ) from None

    def _read_json(self, name: str) -> dict[str, Any] | None:
        try:
            return get_json(self.store, f"{self._root}/{name}")
        except NotFoundError:
            return None


def study_root(name: str) -> str:
    """Return what all keys of a study begin with.

    Raises:
        InputError: No study can have this name.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"study name: expected up to 100 of a-z, 0-9, '.', '_', '-', the first a letter or digit, got {name!r}."
        )
    return f"studies/{name}"


def lease_key(name: str) -> str:
    """Return the key of the lease on a study."""
    return f"{study_root(name)}/lease.json"


def list_studies(store: Store) -> list[str]:
    """Return the names of all studies, sorted."""
    names = (re.fullmatch(r"studies/([^/]+)/study\.yaml", key) for key in store.list("studies/"))
    return sorted(match[1] for match in names if match)
