"""Which channels of which layers are one and the same, from torch-pruning's dependency graph.

A *channel space* is a set of channels that can only be removed together everywhere: the filters that produce them,
the normalisations they pass, the layers that consume them. Residual sums make several convolutions produce into one
space; a concatenation lets a layer consume several. What goes as a whole is a *unit* of the space: one channel, or a
group of them where a grouped convolution takes part. Tracing depends on the architecture alone.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
import torch_pruning
from torch import Tensor, nn

from secateur.errors import ThinningError

Layer = nn.Conv2d | nn.Linear
Kind = Literal["producers", "carriers", "gates", "elementwise", "consumers"]
KINDS: tuple[Kind, ...] = ("producers", "carriers", "gates", "elementwise", "consumers")


@dataclass(frozen=True, kw_only=True, eq=False)
class Member:
    """One layer's part in a channel space."""

    layer: str
    """Module name."""
    units: Tensor
    """For each index of the layer's dimension, the unit of the space it belongs to (int64), or -1 for none."""

    def without(self, new_units: Tensor, keep_indices: Tensor | None) -> Member:
        """Return what is left when indices of the dimension are gone, and each unit has a new number (the last: -1)."""
        left = self.units if keep_indices is None else self.units[keep_indices]
        return replace(self, units=new_units[left])


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelSpace:
    """Channels that exist, or go, together."""

    num_units: int
    producers: tuple[Member, ...]
    """Convolutions and linear layers whose filters (dimension 0) make the channels."""
    carriers: tuple[Member, ...] = ()
    """Depthwise and grouped convolutions, which make each group of the channels of that group alone."""
    gates: tuple[Member, ...] = ()
    """Layers whose filters scale the channels, behind a sigmoid (squeeze and excitation)."""
    elementwise: tuple[Member, ...] = ()
    """Batch normalisations and PReLUs."""
    consumers: tuple[Member, ...] = ()
    """Convolutions and linear layers: their input channels (dimension 1)."""
    obstacle: str | None = None
    """Why none of these channels can be removed, if so."""

    def members(self) -> Iterator[tuple[Kind, Member]]:
        """Yield all members and what they are."""
        for kind in KINDS:
            for member in getattr(self, kind):
                yield kind, member

    def with_members(self, members: Iterable[tuple[Kind, Member]]) -> ChannelSpace:
        """Return the space with other members."""
        found: dict[Kind, list[Member]] = {kind: [] for kind in KINDS}
        for kind, member in members:
            found[kind].append(member)
        return replace(
            self,
            producers=tuple(found["producers"]),
            carriers=tuple(found["carriers"]),
            gates=tuple(found["gates"]),
            elementwise=tuple(found["elementwise"]),
            consumers=tuple(found["consumers"]),
        )


def trace_channel_spaces(model: nn.Module, example_NCHW: Tensor) -> tuple[ChannelSpace, ...]:
    """Find the channel spaces of a network.

    A network that cannot be traced as a whole (such as ShuffleNet, for its channel shuffle) is traced chain by chain:
    what happens between the first and the last layer of an `nn.Sequential` of plain layers, nobody else sees.

    Args:
        model: Not changed.
        example_NCHW: An input it accepts.

    Returns:
        The spaces, in the order of their first producers; what cannot be removed has an obstacle.

    Raises:
        ThinningError: The network cannot be traced.
    """
    # torch-pruning follows gradients, and leaves the model in eval mode.
    traced = copy.deepcopy(model).requires_grad_(True)
    try:
        return tuple(_trace(traced, example_NCHW))
    except Exception as exc:  # noqa: BLE001  torch-pruning raises anything; most of it as ThinningError, below
        reason = f"{type(exc).__name__}: {exc}"
    try:
        spaces = tuple(_trace_chains(traced, example_NCHW, reason))
    except Exception as exc:
        raise ThinningError(f"The network cannot be traced for thinning: {reason}.") from exc
    if all(space.obstacle is not None for space in spaces):
        raise ThinningError(f"The network cannot be traced for thinning: {reason}.")
    return spaces


def _trace(traced: nn.Module, example_NCHW: Tensor) -> Iterator[ChannelSpace]:
    with torch.enable_grad():
        graph = torch_pruning.DependencyGraph().build_dependency(traced, example_inputs=example_NCHW, verbose=False)
    names = {module: name for name, module in traced.named_modules()}
    names_of_parameters = {parameter: name for name, parameter in traced.named_parameters()}
    pieces: list[_Piece] = []
    covered: set[str] = set()
    for module, name in names.items():
        if isinstance(module, Layer) and name not in covered and module in graph.module2node:
            piece = _piece_of(graph, module, names, names_of_parameters)
            covered.update(layer for side, layer in piece.positions if side == "out")
            pieces.append(piece)
    return _joined(traced, pieces, _gates(graph, names))


def _trace_chains(traced: nn.Module, example_NCHW: Tensor, reason: str) -> Iterator[ChannelSpace]:
    chains = {name: module for name, module in traced.named_modules() if _is_chain(module)}
    outermost = {n: m for n, m in chains.items() if n.rpartition(".")[0] not in chains}
    inputs: dict[str, Tensor] = {}
    handles = [
        module.register_forward_pre_hook(lambda _, arguments, name=name: inputs.update({name: arguments[0].detach()}))
        for name, module in outermost.items()
    ]
    with torch.no_grad():
        traced.eval()(example_NCHW)
    for handle in handles:
        handle.remove()
    covered: set[str] = set()
    for name, input_NCHW in inputs.items():
        for space in _trace(outermost[name], input_NCHW):
            renamed = space.with_members((k, replace(m, layer=f"{name}.{m.layer}")) for k, m in space.members())
            covered.update(member.layer for member in (*renamed.producers, *renamed.carriers))
            leaves = f"they leave {name!r}, and the network around it cannot be traced ({reason})"
            yield replace(renamed, obstacle=leaves if space.obstacle is not None else None)
    for name, module in traced.named_modules():
        if isinstance(module, Layer) and name not in covered:
            num_filters = module.weight.shape[0]
            alone = Member(layer=name, units=torch.arange(num_filters))
            obstacle = f"the network around it cannot be traced ({reason})"
            yield ChannelSpace(num_units=num_filters, producers=(alone,), obstacle=obstacle)


def _is_chain(module: nn.Module) -> bool:
    return isinstance(module, nn.Sequential) and all(
        _is_chain(child) or next(child.children(), None) is None for child in module
    )


@dataclass(kw_only=True)
class _Piece:
    """What torch-pruning couples with the filters of one layer; grouped convolutions couple pieces further."""

    num_channels: int
    positions: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    """("out", "in" or "elementwise", layer) -> [(channel, index in the layer's dimension)]."""
    obstacle: str | None = None


def _piece_of(
    graph: torch_pruning.DependencyGraph,
    root: Layer,
    names: Mapping[nn.Module, str],
    names_of_parameters: Mapping[nn.Parameter, str],
) -> _Piece:
    piece = _Piece(num_channels=root.weight.shape[0])
    is_convolution = isinstance(root, nn.Conv2d)
    prune = torch_pruning.prune_conv_out_channels if is_convolution else torch_pruning.prune_linear_out_channels
    for item in graph.get_pruning_group(root, prune, list(range(piece.num_channels))).items:
        module = item.dep.target.module
        if isinstance(module, nn.Parameter):
            piece.obstacle = f"they meet the parameter {names_of_parameters[module]!r}, which no layer owns"
        elif isinstance(module, torch_pruning.ops._OutputOp):
            piece.obstacle = "they are the network's output"
        elif next(module.parameters(recurse=False), None) is None or _is_one_prelu(module):
            continue  # an operation: addition, ReLU, reshape
        elif isinstance(module, Layer):
            side = "in" if "in_channels" in item.dep.handler.__name__ else "out"
            piece.positions.setdefault((side, names[module]), []).extend(zip(item.root_idxs, item.idxs, strict=True))
        elif isinstance(module, nn.BatchNorm2d | nn.PReLU):
            places = piece.positions.setdefault(("elementwise", names[module]), [])
            places.extend(zip(item.root_idxs, item.idxs, strict=True))
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            kind = type(module).__name__
            piece.obstacle = (
                f"{kind} {names[module]!r} normalises them together, so that removing some changes the rest"
            )
        else:
            piece.obstacle = f"they meet layer {names[module]!r}, and {type(module).__name__} is not thinned"
    if not any(side == "in" for side, _ in piece.positions):
        piece.obstacle = piece.obstacle or "they are the network's output"
    return piece


def _is_one_prelu(module: nn.Module) -> bool:
    return isinstance(module, nn.PReLU) and module.num_parameters == 1


def _gates(graph: torch_pruning.DependencyGraph, names: Mapping[nn.Module, str]) -> set[str]:
    """Return the layers that only scale, behind a sigmoid, what others produce (Hu et al. 2018, sec. 3.2)."""
    gates = set()
    for module, node in graph.module2node.items():
        if not isinstance(module, Layer):
            continue
        operations = []
        while len(node.outputs) == 1 and not isinstance(node.outputs[0].module, Layer):
            node = node.outputs[0]
            operations.append(str(node.module).lower())
            if "mul" in operations[-1]:
                break
        if operations and "mul" in operations[-1] and any("sigmoid" in operation for operation in operations):
            gates.add(names[module])
    return gates


def _joined(model: nn.Module, pieces: Sequence[_Piece], gates: set[str]) -> Iterator[ChannelSpace]:
    """Join pieces that grouped convolutions, or shared layers, couple; number the units of each space."""
    first_channel = [0]
    for piece in pieces:
        first_channel.append(first_channel[-1] + piece.num_channels)
    channels = _UnionFind(first_channel[-1])
    joined = _UnionFind(len(pieces))
    seen: dict[tuple[str, str, int], tuple[int, int]] = {}
    for number, piece in enumerate(pieces):
        for (side, layer), places in piece.positions.items():
            for channel, index in places:
                here = (number, first_channel[number] + channel)
                for key in _keys(model.get_submodule(layer), side, layer, index):
                    other = seen.setdefault(key, here)
                    joined.union(number, other[0])
                    channels.union(here[1], other[1])
    spaces: dict[int, list[int]] = {}
    for number in range(len(pieces)):
        spaces.setdefault(joined.find(number), []).append(number)
    for numbers in spaces.values():
        units: dict[int, int] = {}
        for number in numbers:
            for channel in range(first_channel[number], first_channel[number + 1]):
                units.setdefault(channels.find(channel), len(units))
        tables: dict[tuple[str, str], Tensor] = {}
        for number in numbers:
            for (side, layer), places in pieces[number].positions.items():
                table = tables.setdefault((side, layer), _empty_table(model.get_submodule(layer), side))
                for channel, index in places:
                    table[index] = units[channels.find(first_channel[number] + channel)]
        found = (pieces[number].obstacle for number in numbers)
        yield _space(model, tables, len(units), next((text for text in found if text is not None), None), gates)


def _keys(module: nn.Module, side: str, layer: str, index: int) -> Iterator[tuple[str, str, int]]:
    """Name what an index of a layer's dimension belongs to: itself, and its group in a grouped convolution."""
    yield side, layer, index
    if isinstance(module, nn.Conv2d) and module.groups > 1:
        size = (module.out_channels if side == "out" else module.in_channels) // module.groups
        yield "group", layer, index // size


def _empty_table(module: nn.Module, side: str) -> Tensor:
    if isinstance(module, nn.Conv2d):
        length = module.out_channels if side == "out" else module.in_channels
    else:
        assert isinstance(module.weight, Tensor)
        length = module.weight.shape[1 if side == "in" else 0]
    return torch.full((length,), -1)


def _space(
    model: nn.Module, tables: Mapping[tuple[str, str], Tensor], num_units: int, obstacle: str | None, gates: set[str]
) -> ChannelSpace:
    members: list[tuple[Kind, Member]] = []
    for (side, layer), units in tables.items():
        module = model.get_submodule(layer)
        is_grouped = isinstance(module, nn.Conv2d) and module.groups > 1
        if side == "in" and is_grouped:
            continue  # its weight has no dimension for them: whole groups go with its filters
        kind: Kind
        match side:
            case "out":
                kind = "carriers" if is_grouped else "gates" if layer in gates else "producers"
            case "in":
                kind = "consumers"
            case _:
                kind = "elementwise"
        members.append((kind, Member(layer=layer, units=units)))
    space = ChannelSpace(num_units=num_units, producers=(), obstacle=obstacle).with_members(members)
    if space.producers or obstacle is not None:
        return space
    return replace(space, obstacle="they are made, group by group, of an input that keeps its channels")


class _UnionFind:
    """Disjoint sets of 0, 1, ..., n - 1; the smallest of a set stands for it."""

    def __init__(self, num_elements: int) -> None:
        self._parents = list(range(num_elements))

    def find(self, element: int) -> int:
        while (parent := self._parents[element]) != element:
            self._parents[element] = self._parents[parent]
            element = parent
        return element

    def union(self, one: int, other: int) -> None:
        one, other = sorted((self.find(one), self.find(other)))
        self._parents[other] = one
