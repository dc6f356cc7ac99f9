"""Read a state_dict from safetensors, npz or a PyTorch file, without ever unpickling code."""

from __future__ import annotations

import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from secateur.errors import ModelError, did_you_mean
from secateur.models.registry import create_model, default_num_classes

# What numpy, zipfile, safetensors and torch raise for bytes they cannot make sense of.
_DAMAGED = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    SafetensorError,
    zipfile.BadZipFile,
    zlib.error,
)

_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
"""Of torchvision's GoogLeNet and Inception."""


def load_state(path: Path) -> dict[str, Tensor]:
    """Read a state_dict; a leading ``module.`` (DataParallel) is dropped from the names.

    Raises:
        ModelError: The file is absent, of an unknown kind, damaged, or holds something else than tensors.
    """
    try:
        state = _read(path)
    except FileNotFoundError:
        raise ModelError(f"weights {path}: there is no such file.") from None
    except _DAMAGED as exc:
        raise ModelError(f"weights {path}: cannot be read as {path.suffix or 'weights'}: {exc}.") from exc
    except pickle.UnpicklingError as exc:
        raise ModelError(f"weights {path}: holds more than tensors; save model.state_dict() alone.") from exc
    return {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _read(path: Path) -> dict[str, Tensor]:
    match path.suffix:
        case ".safetensors":
            state: dict[str, Tensor] = load_file(path)
        case ".npz":
            # numpy leaves a damaged file open that it has opened itself.
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                state = {name: torch.from_numpy(arrays[name].copy()) for name in arrays.files}
        case ".pt" | ".pth" | ".th" | ".tar":
            content = torch.load(path, map_location="cpu", weights_only=True)
            state = content.get("state_dict", content) if isinstance(content, dict) else {}
            if not isinstance(state, dict) or not state or not all(map(_is_entry, state.items())):
                raise ValueError("expected a state_dict, that is a mapping of names to tensors")
        case other:
            raise ValueError(f"expected .safetensors, .npz, .pt or .pth, got {other!r}")
    return state


def _is_entry(item: tuple[object, object]) -> bool:
    return isinstance(item[0], str) and isinstance(item[1], Tensor)


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights that fit `model` exactly; heads that only served training (see `zoos`) may be left over.

    Raises:
        ModelError: See `load_state`; or a name is missing or unknown, or a shape differs.
    """
    state = load_state(path)
    own = model.state_dict()
    problems = []
    for name, tensor in own.items():
        if name not in state:
            if not name.endswith("num_batches_tracked"):
                problems.append(f"{name!r} is missing")
        elif state[name].shape != tensor.shape:
            problems.append(f"{name!r} has shape {tuple(state[name].shape)}, expected {tuple(tensor.shape)}")
    unknown = (name for name in state if name not in own and not name.startswith(_AUXILIARY_HEADS))
    problems += [f"{name!r} is not in the model.{did_you_mean(name, own)}" for name in unknown]
    if problems:
        more = f"; and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise ModelError(f"weights {path} do not fit the model: {'; '.join(problems[:3])}{more}.")
    model.load_state_dict({name: state.get(name, tensor) for name, tensor in own.items()})


def num_classes_of(model_name: str, path: Path) -> int:
    """Return how many classes a model's weights are for; the model's usual number if they do not tell.

    The head is where the weights differ from the model with its usual number of classes in their first dimension.

    Raises:
        ModelError: See `load_state` and `create_model`.
    """
    state, usual = load_state(path), default_num_classes(model_name)
    with torch.random.fork_rng():
        own = create_model(model_name, usual).state_dict()
    for name, tensor in own.items():
        found = state.get(name, tensor)
        if tensor.dim() > 0 and len(tensor) == usual != len(found) and found.shape[1:] == tensor.shape[1:]:
            return len(found)
    return usual
