"""Make what a pruner chose fit what can go: whole units of channel spaces that nothing hinders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from secateur.thinning.spaces import ChannelSpace, Member
from secateur.thinning.surgery import Side


def unprunable(spaces: Sequence[ChannelSpace], side: Side) -> dict[str, str]:
    """Return the layers whose filters (or input channels) cannot be removed on their own, and why."""
    reasons = {}
    for space in spaces:
        for member in _members(space, side):
            if space.obstacle is not None:
                reasons[member.layer] = space.obstacle
        for gate in space.gates if side == "filters" else ():
            producers = ", ".join(repr(producer.layer) for producer in space.producers)
            reasons[gate.layer] = f"they only scale what {producers} makes, and go with its filters"
    return reasons


def whole_units(
    masks: Mapping[str, Tensor], weights: Mapping[str, Tensor], spaces: Sequence[ChannelSpace], side: Side
) -> dict[str, Tensor]:
    """Return masks in which no unit is masked in part.

    Where filters go in groups (of a grouped convolution), or input channels in runs (behind a flatten), as many whole
    units are masked as the filters masked make up: those that have lost most, and of these the smallest by L1 norm.
    All other masks stay as they are.

    Args:
        masks: Parameter -> bool, of its shape, True = keep; whole filters (or input channels) are masked.
        weights: Every parameter.
        spaces: The network's channel spaces.
        side: Whether filters or input channels are masked.
    """
    dim = 0 if side == "filters" else 1
    fitted = dict(masks)
    for space in spaces:
        chosen: dict[tuple[bool, ...], Tensor] = {}  # layers that share a mask (of their leader) go on sharing it
        for member in _members(space, side):
            name = f"{member.layer}.weight"
            if name not in masks or int(torch.bincount(member.units[member.units >= 0]).max()) == 1:
                continue
            keep = masks[name].transpose(0, dim).flatten(1).any(1).cpu()
            norms = weights[name].detach().transpose(0, dim).flatten(1).abs().sum(1).cpu()
            whole = chosen.setdefault(tuple(keep.tolist()), _whole(keep, norms, member, space.num_units))
            shape = [1] * masks[name].dim()
            shape[dim] = -1
            fitted[name] = whole.view(shape).expand(masks[name].shape).to(masks[name].device).clone()
    return fitted


def _members(space: ChannelSpace, side: Side) -> Iterator[Member]:
    """Yield the layers of which filters (or input channels) are removed on their own account."""
    yield from (*space.producers, *space.carriers) if side == "filters" else space.consumers


def _whole(keep: Tensor, norms: Tensor, member: Member, num_units: int) -> Tensor:
    """Return which indices of one dimension to keep (bool), unit by unit."""
    is_member = member.units >= 0
    units = member.units[is_member]
    num_indices = torch.bincount(units, minlength=num_units)
    num_masked = torch.bincount(units, weights=(~keep[is_member]).double(), minlength=num_units)
    norm_of_unit = torch.bincount(units, weights=norms[is_member].double(), minlength=num_units)
    order = sorted(range(num_units), key=lambda unit: (-float(num_masked[unit]), float(norm_of_unit[unit])))
    stays = torch.ones(num_units, dtype=torch.bool)
    stays[order[: int(num_masked.sum() // num_indices.max())]] = False
    return torch.where(is_member, stays[member.units], keep)
