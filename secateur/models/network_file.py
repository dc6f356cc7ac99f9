"""A thinned network as one safetensors file: the weights, and what is needed to make the module again."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import safetensors.torch
from safetensors import SafetensorError
from torch import nn

from secateur.errors import ModelError
from secateur.models.registry import create_model


@dataclass(frozen=True, kw_only=True)
class Network:
    """A module and where it came from."""

    module: nn.Module
    arch: str
    """The name `create_model` knows."""
    num_classes: int
    kept: Mapping[str, tuple[int, ...]]
    """Convolution -> indices, into the filters before any pruning, of those it still has."""
    removed_blocks: tuple[str, ...] = ()
    """Residual blocks that are an identity now; their convolutions have kept nothing."""


def unpruned(module: nn.Module, arch: str, num_classes: int) -> Network:
    """Describe a network that still has all its filters."""
    return Network(module=module, arch=arch, num_classes=num_classes, kept=all_filters(module))


def all_filters(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return every convolution with the indices of all its filters."""
    return {n: tuple(range(m.out_channels)) for n, m in module.named_modules() if isinstance(m, nn.Conv2d)}


def save_network(network: Network) -> bytes:
    """Return the bytes of a safetensors file; equal networks give equal bytes."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.module.state_dict().items()}
    convolutions = {n: m for n, m in network.module.named_modules() if isinstance(m, nn.Conv2d)}
    metadata = {
        "arch": network.arch,
        "kwargs": {"num_classes": network.num_classes},
        "kept": {n: {"in": m.in_channels, "out": list(network.kept[n])} for n, m in convolutions.items()},
        "removed_blocks": list(network.removed_blocks),
    }
    return bytes(safetensors.torch.save(state, {"secateur": json.dumps(metadata, sort_keys=True)}))


def rebuild(data: bytes) -> Network:
    """Make a network from the bytes `save_network` gave, in eval mode; needs neither torch-pruning nor the schedule.

    Raises:
        ModelError: These are not such bytes, or the model is not known here.
    """
    try:
        metadata = _metadata(data)
        state = safetensors.torch.load(data)
    except (SafetensorError, KeyError, ValueError) as exc:
        raise ModelError(f"This is not a network saved by secateur: {exc}.") from exc
    num_classes = metadata["kwargs"]["num_classes"]
    module = create_model(metadata["arch"], num_classes)
    kept: dict[str, tuple[int, ...]] = dict.fromkeys(all_filters(module), ())
    kept |= {name: tuple(entry["out"]) for name, entry in metadata["kept"].items()}
    removed_blocks = tuple(metadata.get("removed_blocks", ()))  # files of version 0.1 know of none
    replace_by_identity(module, removed_blocks)
    resize_like(module, state)
    try:
        module.load_state_dict(state)
    except RuntimeError as exc:
        raise ModelError(
            f"model {metadata['arch']!r} is no longer what it was when this network was saved: {exc}"
        ) from exc
    return Network(
        module=module.eval(),
        arch=metadata["arch"],
        num_classes=num_classes,
        kept=kept,
        removed_blocks=removed_blocks,
    )


def _metadata(data: bytes) -> dict[str, Any]:
    """Read the header of a safetensors file: eight bytes of length (little endian), then JSON."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    metadata: dict[str, Any] = json.loads(header["__metadata__"]["secateur"])
    return metadata


def resize_like(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Give every parameter and buffer the shape it has in `state`."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name in state and tensor.shape != state[name].shape:
            tensor.data = tensor.data.new_zeros(state[name].shape)
    for layer in module.modules():
        sync_attributes(layer)


def replace_by_identity(model: nn.Module, blocks: Collection[str]) -> None:
    """Put an identity where each block was, so that all other names stay as they are."""
    for name in blocks:
        put_module(model, name, nn.Identity())


def put_module(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put `module` where `model` has one of that name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def sync_attributes(module: nn.Module) -> None:
    """Make a layer's size attributes say what its tensors are; a grouped convolution keeps the size of its groups."""
    if isinstance(module, nn.Conv2d):
        filters_per_group = module.out_channels // module.groups
        module.out_channels = module.weight.shape[0]
        module.groups = module.out_channels // filters_per_group if module.groups > 1 else 1
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
        module.num_features = len(module.running_mean)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(module.weight)
