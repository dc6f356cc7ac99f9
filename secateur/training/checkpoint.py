"""The state of a training as one safetensors file, so that it goes on after a kill.

The tensors are the file's; all else is JSON in its metadata, with `{"tensor": name}` where a tensor belongs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from secateur import progress
from secateur.errors import MachineError

_KEY = "secateur"
_TENSOR = "tensor"


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state to `path`: whoever reads it sees this one or the one before, whole, whatever happens meanwhile.

    Where it cannot be written, a full disk say, the user is told and the one before stays: a training that is well
    is not ended for its copy.

    Args:
        path: Of the file; its folder is created.
        state: Numbers, texts, None, tensors, and lists and dicts (with text keys) of them.
    """
    tensors: dict[str, Tensor] = {}
    metadata = {_KEY: json.dumps(_packed(state, "", tensors))}
    content = save(tensors, metadata)
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync(path.parent)
    except OSError as exc:
        temporary.unlink(missing_ok=True)
        progress.message(
            f"The checkpoint {path} could not be written ({exc.strerror}): training goes on, but would begin again"
            " from the last one if it were killed."
        )


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Return what `write_checkpoint` was given, tensors on the CPU; None if there is no file.

    Raises:
        MachineError: The file is not such a state.
    """
    try:
        with safe_open(path, "pt") as file:
            packed = json.loads(file.metadata()[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
        state: dict[str, Any] = _unpacked(packed, tensors)
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as exc:
        raise MachineError(
            f"The checkpoint {path} cannot be read: {exc}. Remove it, and training begins anew."
        ) from exc
    return state


def _packed(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = value.detach().cpu().clone().contiguous()  # a clone: safetensors refuses shared memory
        return {_TENSOR: name}
    if isinstance(value, Mapping):
        return {key: _packed(item, f"{name}/{key}" if name else key, tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_packed(item, f"{name}/{index}", tensors) for index, item in enumerate(value)]
    return value


def _unpacked(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_unpacked(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_TENSOR}:
        return tensors[value[_TENSOR]]
    return {key: _unpacked(item, tensors) for key, item in value.items()}


def _sync(folder: Path) -> None:
    """Make a rename outlive a loss of power, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
