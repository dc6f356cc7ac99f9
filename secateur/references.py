"""`python:package.module:attribute`: how a study names a user's own function."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from secateur.errors import InputError, did_you_mean


def resolve(reference: str, error: type[InputError]) -> Any:
    """Import what `reference` names, from the working directory or the installed packages.

    Raises:
        InputError: As `error`: the reference is malformed, or the module or the attribute is not there.
    """
    kind, _, rest = reference.partition(":")
    module_name, _, attribute = rest.partition(":")
    if kind != "python" or not module_name or not attribute:
        raise error(f"{reference!r}: expected 'python:package.module:function'.")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as exc:
        raise error(f"{reference!r}: {exc}. Is {module_name!r} installed, or in the current folder?") from exc
    except Exception as exc:  # whatever the user's own code raises
        raise error(f"{reference!r}: importing {module_name!r} failed: {type(exc).__name__}: {exc}.") from exc
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise error(
            f"{reference!r}: module {module_name!r} has no {attribute!r}.{did_you_mean(attribute, vars(module))}"
        ) from None
