"""Which channels of which layers are one and the same, from torch-pruning's dependency graph.

A *channel space* is a set of channels that can only be removed together everywhere: the filters that produce them,
the normalisations they pass, the layers that consume them. Residual sums make several convolutions produce into one
space. Tracing costs milliseconds, and depends on the architecture alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch_pruning
from torch import Tensor, nn

from secateur.errors import ThinningError

Layer = nn.Conv2d | nn.Linear


@dataclass(frozen=True, kw_only=True)
class Member:
    """One layer's part in a channel space."""

    layer: str
    """Module name."""
    positions: tuple[tuple[int, ...], ...]
    """For each channel of the space, its indices in the layer's dimension: more than one after a flatten."""


@dataclass(frozen=True, kw_only=True)
class ChannelSpace:
    """Channels that exist, or go, together."""

    num_channels: int
    producers: tuple[Member, ...]
    """Convolutions and linear layers: their filters (dimension 0)."""
    norms: tuple[Member, ...]
    consumers: tuple[Member, ...]
    """Convolutions and linear layers: their input channels (dimension 1)."""


def trace_channel_spaces(model: nn.Module, example_NCHW: Tensor) -> tuple[ChannelSpace, ...]:
    """Find the channel spaces of a network.

    Args:
        model: Not changed.
        example_NCHW: An input it accepts.

    Raises:
        ThinningError: The network cannot be traced, or holds a layer whose channels cannot be removed.
    """
    # torch-pruning follows gradients, and leaves the model in eval mode.
    traced = copy.deepcopy(model).requires_grad_(True)
    names = {module: name for name, module in traced.named_modules()}
    try:
        with torch.enable_grad():
            graph = torch_pruning.DependencyGraph().build_dependency(traced, example_inputs=example_NCHW)
    except Exception as exc:
        raise ThinningError(f"The network cannot be traced for thinning: {type(exc).__name__}: {exc}.") from exc
    spaces: list[ChannelSpace] = []
    covered: set[str] = set()
    for module, name in names.items():
        if isinstance(module, Layer) and name not in covered:
            space = _space_of(graph, module, names)
            covered.update(member.layer for member in space.producers)
            spaces.append(space)
    return tuple(spaces)


def _space_of(graph: torch_pruning.DependencyGraph, root: Layer, names: dict[nn.Module, str]) -> ChannelSpace:
    num_channels = root.out_channels if isinstance(root, nn.Conv2d) else root.out_features
    prune = (
        torch_pruning.prune_conv_out_channels
        if isinstance(root, nn.Conv2d)
        else torch_pruning.prune_linear_out_channels
    )
    members: dict[str, dict[str, list[list[int]]]] = {"producers": {}, "norms": {}, "consumers": {}}
    for module, side, positions in _items(graph.get_pruning_group(root, prune, list(range(num_channels)))):
        if module not in names:
            raise ThinningError(f"Layer {names[root]!r}: its filters reach a parameter that no layer owns.")
        if isinstance(module, nn.Conv2d) and module.groups != 1:
            raise ThinningError(
                f"Layer {names[module]!r} is a grouped convolution ({module.groups} groups), which is not thinned yet."
            )
        if isinstance(module, Layer):
            kind = "producers" if side == "out" else "consumers"
        elif isinstance(module, nn.BatchNorm2d):
            kind = "norms"
        else:
            raise ThinningError(f"Layer {names[module]!r} ({type(module).__name__}) is not thinned yet.")
        table = members[kind].setdefault(names[module], [[] for _ in range(num_channels)])
        for channel, position in positions:
            if position not in table[channel]:
                table[channel].append(position)
    return ChannelSpace(
        num_channels=num_channels,
        **{
            kind: tuple(Member(layer=name, positions=tuple(map(tuple, rows))) for name, rows in found.items())
            for kind, found in members.items()
        },
    )


def _items(group: torch_pruning.Group) -> Iterator[tuple[nn.Module, str, list[tuple[int, int]]]]:
    """Yield (module, "out" or "in", [(channel of the root, position in the module's dimension)])."""
    for item in group.items:
        module = item.dep.target.module
        if isinstance(module, nn.Module) and next(module.parameters(recurse=False), None) is None:
            continue  # an operation: addition, ReLU, reshape
        side = "in" if "in_channels" in item.dep.handler.__name__ else "out"
        yield module, side, list(zip(item.root_idxs, item.idxs, strict=True))
