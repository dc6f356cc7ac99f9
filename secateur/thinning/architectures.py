"""What an architecture is like: found out once for all its candidates."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import nn

from secateur.models import create_model
from secateur.thinning.spaces import ChannelSpace, trace_channel_spaces


@lru_cache(maxsize=8)
def channel_spaces(model: str, num_classes: int, input_size: int) -> tuple[ChannelSpace, ...]:
    """Trace the channel spaces of a model, given its name in a study."""
    return trace_channel_spaces(create_model(model, num_classes), torch.zeros(1, 3, input_size, input_size))


@lru_cache(maxsize=8)
def num_filters(model: str, num_classes: int) -> dict[str, int]:
    """Return the filters of every convolution before pruning, by its name."""
    dense = create_model(model, num_classes)
    return {name: m.out_channels for name, m in dense.named_modules() if isinstance(m, nn.Conv2d)}
