"""Type a command, as a user would, in this process and in a folder of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from secateur.cli.main import main


@dataclass(frozen=True, kw_only=True)
class Typed:
    """What became of a command."""

    code: int
    out: str
    err: str


Secateur = Callable[..., Typed]


@pytest.fixture
def secateur(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Secateur:
    """Run a command line in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SECATEUR_STORE", raising=False)

    def run(*arguments: str | Path) -> Typed:
        monkeypatch.setattr(sys, "argv", ["secateur", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_info:
            main()
            sys.exit(0)
        code = exit_info.value.code
        captured = capsys.readouterr()
        return Typed(code=code if isinstance(code, int) else int(bool(code)), out=captured.out, err=captured.err)

    return run
