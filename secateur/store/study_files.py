"""Which document of a study stands where: the one place that knows.

::

    studies/<name>/study.yaml               the study as run
    studies/<name>/ax.json                  the optimiser's state
    studies/<name>/insight.json             what the optimiser's model says, for the report
    studies/<name>/control.json             whether it shall run, pause or end
    studies/<name>/lease.json               who runs it: see `secateur.store.lease`
    studies/<name>/baselines/<label>.json   records of the networks it is compared to
    studies/<name>/trials/<index>.json      records of its trials
    studies/<name>/premise.json             whether latency is a matter of shape here
    studies/<name>/report/
    studies/<name>/contests/<number>.json   who competed to be champion, and who won
    studies/<name>/contenders/<label>.json  records of trials retrained for that: 12-1 is trial 12's first
    studies/<name>/examinations/<label>.json    what those networks, and the unpruned one, made of unseen images
    studies/<name>/aliases/champion.json    the champion, and those before it
    studies/<name>/nights/<time>/<place>.json   its latency again, night by night
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, TypeVar, cast, get_args

import yaml
from pydantic import ValidationError

from secateur.championship import Alias, Contest, Examination, Night
from secateur.errors import InputError, NotFoundError, StoreError
from secateur.findings import Premise
from secateur.insight import Insight
from secateur.results import BASELINES, Record, StudyResults, TrialRecord
from secateur.store.json_documents import get_json, put_json
from secateur.store.protocol import Store

Control = Literal["run", "pause", "cancel"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_INDEX = re.compile(r"0|[1-9][0-9]*")
_CONTENDER = re.compile(rf"({_INDEX.pattern})-[1-9][0-9]*")
_R = TypeVar("_R", bound=Record)
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
        """Return the record of a trial (label: its index), of a contender (``12-1``) or of a baseline.

        Raises:
            NotFoundError: There is none.
            StoreError: It is no record, or another's.
        """
        record = self._read(self._record_key(label), TrialRecord)
        if (record.study, record.label) != (self.name, label):
            problem = f"it belongs to label {record.label!r} of study {record.study!r}"
            raise self._damaged(self._record_key(label), problem)
        return record

    def write_record(self, record: TrialRecord) -> None:
        """Keep a record, in place of an earlier one of the same label."""
        assert record.study == self.name
        self._write(self._record_key(record.label), record)

    def create_record(self, record: TrialRecord) -> bool:
        """Keep the record of a new trial, unless there is one of its label already; tell whether it was kept."""
        assert record.study == self.name
        return self.store.put(self._record_key(record.label), record.model_dump_json(indent=1).encode(), if_absent=True)

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
        champion = None
        if alias := self.read_champion():
            champion = alias.champion.record.model_copy(update={"test": alias.champion.test})
        return StudyResults(study=study, baselines=self.baselines(), trials=self.trials(), champion=champion)

    def read_optimiser(self) -> dict[str, Any] | None:
        """Return the optimiser's state; None before it was first kept."""
        return self._read_json("ax.json")

    def write_optimiser(self, state: dict[str, Any]) -> None:
        """Keep the optimiser's state."""
        put_json(self.store, f"{self._root}/ax.json", state)

    def read_premise(self) -> Premise | None:
        """Return whether latency is a matter of shape here; None: nobody looked.

        Raises:
            StoreError: The document is not what it should be.
        """
        document = self._read_json("premise.json")
        try:
            return None if document is None else Premise.model_validate(document)
        except ValidationError as exc:
            raise StoreError(
                f"{self.store.url}: '{self._root}/premise.json' is not what it should be: {exc.errors()[0]['msg']}."
                f" Delete it, and say 'secateur premise {self.name}'."
            ) from None

    def write_premise(self, premise: Premise) -> None:
        """Keep what was found out about latency and shape."""
        put_json(self.store, f"{self._root}/premise.json", premise.model_dump(mode="json"))

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

    def contests(self) -> tuple[Contest, ...]:
        """Return all contests, from the first to the last."""
        return tuple(sorted(self._read_all("contests", Contest), key=lambda contest: contest.number))

    def write_contest(self, contest: Contest) -> None:
        """Keep a contest, in place of what was known of it."""
        self._write(f"{self._root}/contests/{contest.number}.json", contest)

    def read_examination(self, label: str) -> Examination | None:
        """Return what a contender, or the unpruned network, made of the second validation part, if it was examined."""
        return self._find(f"{self._root}/examinations/{label}.json", Examination)

    def write_examination(self, examination: Examination) -> None:
        """Keep an examination."""
        self._write(f"{self._root}/examinations/{examination.label}.json", examination)

    def read_champion(self) -> Alias | None:
        """Return the champion and those before it; None before the first promotion."""
        return self._find(self._champion_key, Alias)

    def write_champion(self, alias: Alias) -> None:
        """Promote, or roll back: one write decides."""
        self._write(self._champion_key, alias)

    def nights(self) -> tuple[Night, ...]:
        """Return all nights' measurements, from the first to the last."""
        return tuple(sorted(self._read_all("nights", Night), key=lambda night: (night.measured_at, night.place)))

    def read_night(self, time: str, place: str) -> Night | None:
        """Return one place's measurement of one night, if it was made."""
        return self._find(f"{self._root}/nights/{time}/{place}.json", Night)

    def write_night(self, time: str, night: Night) -> None:
        """Keep one night's measurement."""
        self._write(f"{self._root}/nights/{time}/{night.place}.json", night)

    def remove(self) -> None:
        """Delete the study's documents; objects and cached results stay, and so does the lease of who does this.

        Aliases stay, too: somebody uses the champion.

        `study.yaml` goes last: a study half removed still exists, and can be removed again.
        """
        last = f"{self._root}/study.yaml"
        for key in self.store.list(f"{self._root}/"):
            if key not in {last, lease_key(self.name)} and not key.startswith(f"{self._root}/aliases/"):
                self.store.delete(key)
        self.store.delete(last)

    @property
    def _champion_key(self) -> str:
        return f"{self._root}/aliases/champion.json"

    def _record_key(self, label: str) -> str:
        if label in BASELINES:
            return f"{self._root}/baselines/{label}.json"
        if _CONTENDER.fullmatch(label):
            return f"{self._root}/contenders/{label}.json"
        if not _INDEX.fullmatch(label):
            raise InputError(f"record label: expected a trial's index or one of {', '.join(BASELINES)}, got {label!r}.")
        return f"{self._root}/trials/{label}.json"

    def _write(self, key: str, record: Record) -> None:
        self.store.put(key, record.model_dump_json(indent=1).encode())

    def _read(self, key: str, kind: type[_R]) -> _R:
        try:
            return kind.model_validate_json(self.store.get(key))
        except ValidationError as exc:
            first = exc.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise self._damaged(key, f"{where}: {first['msg']}" if where else first["msg"]) from None

    def _read_all(self, folder: str, kind: type[_R]) -> list[_R]:
        return [self._read(key, kind) for key in self.store.list(f"{self._root}/{folder}/")]

    def _find(self, key: str, kind: type[_R]) -> _R | None:
        try:
            return self._read(key, kind)
        except NotFoundError:
            return None

    def _damaged(self, key: str, problem: str) -> StoreError:
        return StoreError(
            f"{self.store.url}: {key!r} is not the record it should be: {problem}."
            " Restore it, or delete it, and the sweep will run it anew."
        )

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
