from __future__ import annotations

import sys
from pathlib import Path

import pytest

from secateur.errors import InputError, ModelError, StudyError
from secateur.references import resolve


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory; `sys.path` and modules are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("mine", "mine_broken"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_a_module_in_the_working_directory_is_found(here: Path) -> None:
    (here / "mine.py").write_text("def measure(): return 3\n")
    assert resolve("python:mine:measure", StudyError)() == 3
    assert sys.path[-1] == str(here)


def test_an_installed_module_is_found() -> None:
    assert resolve("python:secateur.errors:InputError", StudyError) is InputError


@pytest.mark.parametrize("reference", ["mine:f", "python:mine", "python::f", "python:mine:", "", "torch:mine:f"])
def test_another_form_is_refused(reference: str) -> None:
    with pytest.raises(StudyError, match=f"'{reference}': expected 'python:package.module:function'"):
        resolve(reference, StudyError)


def test_a_module_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        ModelError, match=r"No module named 'nowhere'. Is 'nowhere' installed, or in the current folder\?"
    ):
        resolve("python:nowhere:f", ModelError)


def test_a_name_that_is_not_there_is_refused_with_the_nearest(here: Path) -> None:
    (here / "mine.py").write_text("def measure(): return 3\n")
    with pytest.raises(ModelError, match=r"module 'mine' has no 'mesure'. Did you mean 'measure'\?"):
        resolve("python:mine:mesure", ModelError)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def f(:\n", "SyntaxError: "),
        ("1 / 0\n", "ZeroDivisionError: division by zero."),
        ("import nowhere_else\n", ""),
    ],
)
def test_a_module_that_cannot_be_imported_is_refused(here: Path, code: str, problem: str) -> None:
    (here / "mine_broken.py").write_text(code)
    expected = f"importing 'mine_broken' failed: {problem}" if problem else "No module named 'nowhere_else'"
    with pytest.raises(ModelError, match=expected):
        resolve("python:mine_broken:f", ModelError)


def test_a_relative_name_is_refused() -> None:
    with pytest.raises(ModelError, match=r"importing '.mine' failed: TypeError"):
        resolve("python:.mine:f", ModelError)
