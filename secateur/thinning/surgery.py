"""Remove silenced filters and channels for good, and check that nothing else was lost.

The parameters stay the same objects, so that an optimizer keeps working.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import Optimizer

from secateur.errors import ThinningError
from secateur.models.network_file import sync_attributes
from secateur.thinning.counting import observe, random_like
from secateur.thinning.spaces import ChannelSpace, Kind, Member

Side = Literal["filters", "channels"]

_TOLERANCE = 1e-4
"""Allowed max |thinned - silenced|, relative to max |silenced|."""


@dataclass(frozen=True, kw_only=True)
class Thinned:
    """What thinning did."""

    kept: Mapping[str, Tensor]
    """Convolution or linear layer whose filters went -> int64 indices of those that stay."""
    spaces: tuple[ChannelSpace, ...]
    """The channel spaces of what is left, to thin it again."""


def find_silent(model: nn.Module, side: Side) -> dict[str, Tensor]:
    """Find filters or input channels whose weights are all exactly zero (Distiller's test, SPEC 7.1).

    Returns:
        Module name -> bool tensor, True = silent; `num_filters` or `in_channels` long. Layers without any are left out.
    """
    silent = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) or (isinstance(module, nn.Linear) and side == "channels"):
            dims = [d for d in range(module.weight.dim()) if d != (0 if side == "filters" else 1)]
            is_zero = module.weight.detach().abs().sum(dim=dims) == 0
            if is_zero.any():
                silent[name] = is_zero.cpu()
    return silent


def thin(
    model: nn.Module,
    spaces: Sequence[ChannelSpace],
    side: Side,
    example_NCHW: Tensor,
    optimizer: Optimizer | None = None,
) -> Thinned:
    """Remove, in place, every filter (or input channel) that is silent, with all that hangs on it.

    Removing a silent *filter* also removes the constant that its batch normalisation made of zeros (as Distiller
    does, SPEC 7.5); removing a silent *channel* changes nothing in what the network computes. The network's input
    keeps its channels. The thinned network is run: it must compute what the network computes whose removed filters are
    silent (weights, biases, scales and shifts of their normalisations zero), with as many parameters and MACs as
    follow from what was removed.

    Args:
        model: The network to thin.
        spaces: Its channel spaces, for the channels it has now.
        side: Which silent structures to look for.
        example_NCHW: An input of the shape the network takes.
        optimizer: Its state (momentum) is trimmed alike.

    Raises:
        ThinningError: Coupled layers disagree, or nothing would be left of a layer, or the layer cannot be thinned, or
            the thinned network computes something else. The network is unchanged then.
    """
    silent = find_silent(model, side)
    keeps = [_agreed(space, silent, side) for space in spaces]
    if all(keep is None for keep in keeps):
        return Thinned(kept={}, spaces=tuple(spaces))
    cuts = _cuts(spaces, keeps)
    if (emptied := next((layer for (_, layer), indices in cuts.items() if len(indices) == 0), None)) is not None:
        raise ThinningError(f"Nothing would be left of layer {emptied!r}: prune less of it.")
    _replace_checked(model, cuts, example_NCHW)
    if optimizer is not None:
        for parameter, dim, indices in _parameters_of(model, cuts):
            _trim_state(optimizer, parameter, dim, indices)
    kept = {layer: indices for (kind, layer), indices in cuts.items() if kind == "filters"}
    return Thinned(kept=kept, spaces=tuple(_left(spaces, keeps, cuts)))


# --- what goes


def _agreed(space: ChannelSpace, silent: Mapping[str, Tensor], side: Side) -> Tensor | None:
    """Return which units of a space to keep (bool), or None to leave it alone."""
    members = space.producers if side == "filters" else space.consumers
    votes = {m.layer: _per_unit(m, silent.get(m.layer), space.num_units) for m in members}
    what = "filters" if side == "filters" else "input channels"
    if side == "filters" and len(space.producers) == len(space.carriers) == 1:
        # One behind the other: a silent filter of either leaves nothing of the channel.
        (carrier,) = space.carriers
        producer = space.producers[0].layer
        votes[producer] |= _per_unit(carrier, silent.get(carrier.layer), space.num_units)
    if not any(vote.any() for vote in votes.values()):
        return None
    if space.obstacle is not None:
        layer = next(name for name, vote in votes.items() if vote.any())
        raise ThinningError(f"Layer {layer!r} cannot lose {what}: {space.obstacle}.")
    goes = torch.stack(list(votes.values())).any(0)
    first, vote = next(iter(votes.items()))
    if any((goes & _has_units(member, space.num_units) & ~votes[member.layer]).any() for member in members):
        other = next(name for name, other_vote in votes.items() if not torch.equal(vote, other_vote))
        raise ThinningError(
            f"Layers {first!r} and {other!r} share their channels (a residual sum, or one input), but different "
            f"{what} of them are silent ({int(vote.sum())} and {int(votes[other].sum())}). Prune all of "
            f"{', '.join(votes)} in one pruner with 'group_dependency: Leader', or none."
        )
    if goes.all():
        raise ThinningError(f"All {what} of layer {first!r} are silent: nothing would be left of it.")
    return ~goes


def _has_units(member: Member, num_units: int) -> Tensor:
    """Return which units of the space the layer takes part in; after a concatenation, not in all."""
    return torch.bincount(member.units[member.units >= 0], minlength=num_units) > 0


def _per_unit(member: Member, silent: Tensor | None, num_units: int) -> Tensor:
    """Return, for each unit of the space, whether the layer has indices of it, and all of them are silent."""
    if silent is None:
        return torch.zeros(num_units, dtype=torch.bool)
    is_member = member.units >= 0
    num_indices = torch.bincount(member.units[is_member], minlength=num_units)
    num_silent = torch.bincount(member.units[is_member & silent], minlength=num_units)
    return (num_silent == num_indices) & (num_indices > 0)


Cuts = Mapping[tuple[Literal["filters", "channels", "elementwise"], str], Tensor]
"""("filters" (dimension 0), "channels" (dimension 1) or "elementwise", layer) -> int64 indices that stay."""

_DIMENSIONS: Mapping[Kind, Literal["filters", "channels", "elementwise"]] = {
    "producers": "filters",
    "carriers": "filters",
    "gates": "filters",
    "consumers": "channels",
    "elementwise": "elementwise",
}


def _cuts(spaces: Sequence[ChannelSpace], keeps: Sequence[Tensor | None]) -> Cuts:
    """Return what stays of every layer that loses something; a layer may take part in several spaces."""
    staying: dict[tuple[Literal["filters", "channels", "elementwise"], str], Tensor] = {}
    for space, keep in zip(spaces, keeps, strict=True):
        if keep is None:
            continue
        for kind, member in space.members():
            stays = (member.units < 0) | keep[member.units]
            key = (_DIMENSIONS[kind], member.layer)
            staying[key] = staying[key] & stays if key in staying else stays
    return {key: stays.nonzero().flatten() for key, stays in staying.items()}


def _left(spaces: Sequence[ChannelSpace], keeps: Sequence[Tensor | None], cuts: Cuts) -> Iterator[ChannelSpace]:
    """Return the spaces of the thinned network."""
    for space, keep in zip(spaces, keeps, strict=True):
        keys = [(_DIMENSIONS[kind], member.layer) for kind, member in space.members()]
        if not any(key in cuts for key in keys):
            yield space
            continue
        keep_units = torch.ones(space.num_units, dtype=torch.bool) if keep is None else keep
        new_units = torch.cat([keep_units.cumsum(0) - 1, torch.tensor([-1])])  # -1, no unit, stays what it is
        left = (
            (kind, member.without(new_units, cuts.get(key)))
            for (kind, member), key in zip(space.members(), keys, strict=True)
        )
        yield replace(space.with_members(left), num_units=int(keep_units.sum()))


# --- cutting


def _parameters_of(model: nn.Module, cuts: Cuts) -> Iterator[tuple[Tensor, int, Tensor]]:
    """Yield (parameter or statistic, dimension, indices that stay)."""
    for (what, layer), indices in cuts.items():
        module = model.get_submodule(layer)
        assert isinstance(module.weight, Tensor | None)
        if what == "channels":
            assert module.weight is not None
            yield module.weight, 1, indices
            continue
        for tensor in (*module.parameters(recurse=False), *module.buffers(recurse=False)):
            if tensor.dim() > 0:
                yield tensor, 0, indices


def _silenced(model: nn.Module, cuts: Cuts) -> dict[str, Tensor]:
    """Return new values of all tensors that differ when what will go is silent instead."""
    values: dict[str, Tensor] = {}
    for (what, layer), indices in cuts.items():
        if what == "channels":
            continue
        module = model.get_submodule(layer)
        # Without a scale, only a mean of zero makes zeros of zeros.
        tensors: dict[str, Tensor] = dict(module.named_parameters(recurse=False))
        tensors = tensors or {"running_mean": module.get_buffer("running_mean")}
        for name, tensor in tensors.items():
            values[f"{layer}.{name}"] = torch.zeros_like(tensor).index_copy(
                0, indices.to(tensor.device), tensor.detach().index_select(0, indices.to(tensor.device))
            )
    return values


def _replace_checked(model: nn.Module, cuts: Cuts, example_NCHW: Tensor) -> None:
    """Cut, then run what is left; put everything back if it is not what it should be."""
    images_NCHW = random_like(model, example_NCHW)
    silenced = _silenced(model, cuts)
    expected, positions = observe(model, images_NCHW, lambda images: functional_call(model, silenced, (images,)))
    before = [(tensor, tensor.data, tensor.grad) for tensor, _, _ in _parameters_of(model, cuts)]
    for tensor, dim, indices in list(_parameters_of(model, cuts)):
        _shrink(tensor, dim, indices)
    layers = [model.get_submodule(layer) for _, layer in cuts]
    for layer in layers:
        sync_attributes(layer)
    try:
        _check(model, expected, positions, images_NCHW, cuts)
    except ThinningError:
        for tensor, data, gradient in reversed(before):
            tensor.grad = None
            tensor.data = data
            tensor.grad = gradient
        for layer in layers:
            sync_attributes(layer)
        raise


def _check(model: nn.Module, expected: Tensor, positions: Mapping[str, int], images_NCHW: Tensor, cuts: Cuts) -> None:
    what = ", ".join(sorted({layer for kind, layer in cuts if kind == "filters"}))
    try:
        output, positions_left = observe(model, images_NCHW)
    except (RuntimeError, ValueError, IndexError) as exc:
        raise ThinningError(f"Without the filters that {what} should lose, the network does not run: {exc}.") from exc
    if output.shape != expected.shape:
        raise ThinningError(
            f"Without the filters that {what} should lose, the network's output is {tuple(output.shape)}, "
            f"expected {tuple(expected.shape)}."
        )
    if positions_left != positions:
        raise ThinningError(f"Without the filters that {what} should lose, other layers run, or on other sizes.")
    difference = float((output - expected).abs().max())
    tolerance = _TOLERANCE * float(expected.abs().max())
    if not difference <= tolerance:  # NaN fails too
        raise ThinningError(
            f"The network without the filters that {what} should lose is not the one in which they are silent: "
            f"max |thinned - silenced| = {difference:.3g}, tolerance {tolerance:.3g}."
        )


def _shrink(tensor: Tensor, dim: int, indices: Tensor) -> None:
    """Keep `indices` of one dimension of a parameter or buffer, and of its gradient, in place."""
    indices = indices.to(tensor.device)
    gradient = tensor.grad
    tensor.grad = None
    tensor.data = tensor.data.index_select(dim, indices)
    if gradient is not None:
        tensor.grad = gradient.index_select(dim, indices)


def _trim_state(optimizer: Optimizer, parameter: Tensor, dim: int, indices: Tensor) -> None:
    """Keep `indices` of whatever the optimizer remembers in the shape of a parameter."""
    state = optimizer.state.get(parameter, {})
    for name, value in state.items():
        if isinstance(value, Tensor) and value.dim() == parameter.dim():
            state[name] = value.index_select(dim, indices.to(value.device))
