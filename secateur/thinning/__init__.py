"""Thinning: what is masked is physically removed."""

from secateur.thinning.counting import count_macs, count_params
from secateur.thinning.network_file import Network, all_filters, rebuild, save_network, unpruned
from secateur.thinning.spaces import ChannelSpace, obstacles, trace_channel_spaces
from secateur.thinning.surgery import Thinned, thin

__all__ = [
    "ChannelSpace",
    "Network",
    "Thinned",
    "all_filters",
    "count_macs",
    "count_params",
    "obstacles",
    "rebuild",
    "save_network",
    "thin",
    "trace_channel_spaces",
    "unpruned",
]
