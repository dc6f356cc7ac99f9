"""Thinning: what is masked is physically removed."""

from secateur.models.network_file import (
    Network,
    all_filters,
    rebuild,
    replace_by_identity,
    resize_like,
    save_network,
    unpruned,
)
from secateur.thinning.architectures import channel_spaces, num_filters
from secateur.thinning.blocks import (
    choose_blocks,
    find_residual_blocks,
    measure_change_without,
    remove_blocks,
    spaces_without,
)
from secateur.thinning.counting import count_macs, count_params
from secateur.thinning.spaces import ChannelSpace, trace_channel_spaces
from secateur.thinning.surgery import Thinned, thin
from secateur.thinning.units import unprunable, whole_units

__all__ = [
    "ChannelSpace",
    "Network",
    "Thinned",
    "all_filters",
    "channel_spaces",
    "choose_blocks",
    "count_macs",
    "count_params",
    "find_residual_blocks",
    "measure_change_without",
    "num_filters",
    "rebuild",
    "remove_blocks",
    "replace_by_identity",
    "resize_like",
    "save_network",
    "spaces_without",
    "thin",
    "trace_channel_spaces",
    "unprunable",
    "unpruned",
    "whole_units",
]
