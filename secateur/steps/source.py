"""Where a study comes from: its YAML file, or the store, if it was begun before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from secateur import resources
from secateur.config import Study, load_study, parse_study
from secateur.errors import NotFoundError, StudyError, did_you_mean
from secateur.store import StudyFiles, list_studies, open_store


def is_file_name(study: str) -> bool:
    """Tell whether `study` names a YAML file, and not a study in the store."""
    return study.endswith((".yaml", ".yml"))


def find_study(study: str, store: str, overrides: Sequence[str] = ()) -> tuple[StudyFiles, Study]:
    """Read a study, and say where its files are.

    Args:
        study: A YAML file here, or one that is shipped (``schedules/studies/quickstart.yaml``); or a name in the store.
        store: Folder or s3:// URL.
        overrides: ``key=value`` each; for a file.

    Raises:
        StudyError: There is no such study, or it is wrong.
    """
    if not is_file_name(study):
        files = StudyFiles(open_store(store), study)
        if overrides:
            raise StudyError(f"study {study!r} was begun before: its settings cannot be overridden. Name its file.")
        return files, stored_study(files)
    read = load_study(resources.here_or_shipped(Path(study)), overrides)
    return StudyFiles(open_store(store), read.name), read


def stored_study(files: StudyFiles) -> Study:
    """Return a study as it was begun.

    Raises:
        StudyError: There is none, or it is damaged.
    """
    where = f"study {files.name!r} in {files.store.url}"
    try:
        return parse_study(files.read_study_yaml(), where)
    except NotFoundError:
        near = did_you_mean(files.name, list_studies(files.store))
        raise StudyError(f"{where}: there is none.{near} 'secateur sweep FILE' begins one.") from None
