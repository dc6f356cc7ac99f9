"""How important each residual block of a network is, by images; computed once, and kept in the store."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from secateur import progress
from secateur.datasets import Splits, data_identity
from secateur.errors import NotFoundError, ThinningError
from secateur.identity import digest_of
from secateur.store import Store, get_json, get_object, put_json
from secateur.thinning import find_residual_blocks, measure_change_without, rebuild
from secateur.training import Device
from secateur.training.batches import fastest_memory_format, normalized

_NUM_IMAGES, _BATCH_SIZE = 512, 128
_SEED = 0
"""Which images are taken never depends on a study's seed: it is to be the same order of blocks for all."""
_VERSION = 1
"""Part of the cache key: raised when the same inputs come to give other figures."""


@dataclass(frozen=True, kw_only=True)
class BlockImportance:
    """Tells how much predictions change without a residual block; see `secateur.thinning.measure_change_without`.

    Nothing is computed before it is asked for the first time.
    """

    unpruned_key: str
    """Artifact key of the unpruned network's checkpoint."""
    splits: Splits
    """Of their training images a fixed part is taken, as it is, never of those that validate."""
    store: Store
    """Where figures are kept."""
    device: Device
    """Where to compute."""

    def __call__(self, block: str) -> float:
        """Return the change of the predictions without a block, in nats.

        Raises:
            ThinningError: The unpruned network has no such residual block.
        """
        if block not in self._changes:
            raise ThinningError(
                f"How important {block!r} is cannot be told: in the unpruned network it holds residual blocks itself. "
                "Name these, or let the same entry of the schedule remove both."
            )
        return self._changes[block]

    @cached_property
    def _changes(self) -> dict[str, float]:
        parts = {
            "version": _VERSION,
            "unpruned": self.unpruned_key,
            "data": data_identity(self.splits),
            "num_images": _NUM_IMAGES,
        }
        key = f"cache/blocks/{digest_of(parts)}.json"
        try:
            return {name: float(change) for name, change in get_json(self.store, key).items()}
        except NotFoundError:
            pass
        module = rebuild(get_object(self.store, self.unpruned_key)).module.to(self.device)
        images_NCHW = self._draw_images(module)
        blocks = find_residual_blocks(module, images_NCHW[0][:1])
        progress.message(f"How much each of {len(blocks)} residual blocks matters is computed, once.")
        changes = measure_change_without(module, blocks, images_NCHW)
        put_json(self.store, key, changes)
        return changes

    def _draw_images(self, module: nn.Module) -> list[Tensor]:
        images, normalize = self.splits.train, self.splits.normalize
        drawn_N = torch.randperm(len(images.labels_N), generator=Generator().manual_seed(_SEED))[:_NUM_IMAGES]
        layout = fastest_memory_format(module, images, normalize, self.device)
        return [
            normalized(batch_NHWC.to(self.device), normalize).contiguous(memory_format=layout)
            for batch_NHWC in images.batches(torch.split(drawn_N, _BATCH_SIZE))
        ]
