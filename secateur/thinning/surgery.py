"""Remove silenced filters and channels for good.

The parameters stay the same objects, so that an optimizer keeps working.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.errors import ThinningError
from secateur.thinning.spaces import ChannelSpace, Layer, Member

Side = Literal["filters", "channels"]


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
                silent[name] = is_zero
    return silent


def thin(
    model: nn.Module, spaces: Sequence[ChannelSpace], side: Side, optimizer: Optimizer | None = None
) -> dict[str, Tensor]:
    """Remove, in place, every filter (or input channel) that is silent, with all that hangs on it.

    Removing a silent *filter* also removes the constant that its batch normalisation made of zeros (as Distiller
    does, SPEC 7.5); removing a silent *channel* changes nothing in what the network computes. The network's input
    keeps its channels.

    Args:
        model: The network to thin.
        spaces: Its channel spaces, for the channels it has now.
        side: Which silent structures to look for.
        optimizer: Its state (momentum) is trimmed alike.

    Returns:
        Convolution or linear layer whose filters went -> int64 indices of those that stay.

    Raises:
        ThinningError: Coupled layers disagree, or nothing would be left of a layer. The network is unchanged then.
    """
    silent = find_silent(model, side)
    removals = [(space, keep) for space in spaces if (keep := _agreed(space, silent, side)) is not None]
    kept: dict[str, Tensor] = {}
    for space, keep in removals:
        for member in space.producers:
            kept[member.layer] = _select(member, keep)
            _slice(model.get_submodule(member.layer), 0, kept[member.layer], optimizer)
        for member in space.norms:
            _slice_norm(model.get_submodule(member.layer), _select(member, keep), optimizer)
        for member in space.consumers:
            _slice(model.get_submodule(member.layer), 1, _select(member, keep), optimizer)
    return kept


def _agreed(space: ChannelSpace, silent: Mapping[str, Tensor], side: Side) -> Tensor | None:
    """Return which channels of a space to keep (bool), or None to leave it alone."""
    members = space.producers if side == "filters" else space.consumers
    votes = {m.layer: _per_channel(m, silent.get(m.layer)) for m in members}
    what = "filters" if side == "filters" else "input channels"
    if not any(vote.any() for vote in votes.values()):
        return None
    first, vote = next(iter(votes.items()))
    for other, other_vote in votes.items():
        if not torch.equal(vote, other_vote):
            raise ThinningError(
                f"Layers {first!r} and {other!r} share their channels (a residual sum, or one input), but different "
                f"{what} of them are silent ({int(vote.sum())} and {int(other_vote.sum())}). Prune all of "
                f"{', '.join(votes)} in one pruner with 'group_dependency: Leader', or none."
            )
    if vote.all():
        raise ThinningError(f"All {what} of layer {first!r} are silent: nothing would be left of it.")
    return ~vote


def _per_channel(member: Member, silent: Tensor | None) -> Tensor:
    """Return, for each channel of the space, whether all its positions in the layer are silent."""
    if silent is None:
        return torch.zeros(len(member.positions), dtype=torch.bool)
    return torch.stack([silent[list(positions)].all() for positions in member.positions]).cpu()


def _select(member: Member, keep: Tensor) -> Tensor:
    """Return the indices, in the layer's dimension, of the channels that stay; order is preserved."""
    staying = (positions for positions, stays in zip(member.positions, keep.tolist(), strict=True) if stays)
    return torch.tensor(sorted(index for positions in staying for index in positions))


def _slice(module: nn.Module, dim: int, indices: Tensor, optimizer: Optimizer | None) -> None:
    assert isinstance(module, Layer)
    shrink(module.weight, dim, indices, optimizer)
    if dim == 0 and module.bias is not None:
        shrink(module.bias, 0, indices, optimizer)
    sync_attributes(module)


def _slice_norm(module: nn.Module, indices: Tensor, optimizer: Optimizer | None) -> None:
    assert isinstance(module, nn.BatchNorm2d)
    for parameter in (module.weight, module.bias):
        if parameter is not None:
            shrink(parameter, 0, indices, optimizer)
    for statistic in (module.running_mean, module.running_var):
        if statistic is not None:
            statistic.data = statistic.data.index_select(0, indices.to(statistic.device))
    module.num_features = len(indices)


def sync_attributes(module: nn.Module) -> None:
    """Make a layer's size attributes say what its tensors are."""
    if isinstance(module, nn.Conv2d):
        module.out_channels = module.weight.shape[0]
        module.in_channels = module.weight.shape[1] * module.groups
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
        module.num_features = len(module.running_mean)


def shrink(parameter: Tensor, dim: int, indices: Tensor, optimizer: Optimizer | None = None) -> None:
    """Keep `indices` of one dimension of a parameter, its gradient and its momentum, in place."""
    indices = indices.to(parameter.device)
    full_shape = parameter.shape
    if parameter.grad is not None:
        gradient = parameter.grad.index_select(dim, indices)
        parameter.grad = None
        parameter.data = parameter.data.index_select(dim, indices)
        parameter.grad = gradient
    else:
        parameter.data = parameter.data.index_select(dim, indices)
    if optimizer is not None:
        state = optimizer.state.get(parameter, {})
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == full_shape:
                state[name] = value.index_select(dim, indices)
