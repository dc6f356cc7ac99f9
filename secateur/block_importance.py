"""How important each residual block of a network is, by images; computed once, and kept in the store."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from secateur import progress
from secateur.datasets import Splits, data_identity
from secateur.errors import NotFoundError
from secateur.identity import digest_of
from secateur.store import Store, get_json, get_object, put_json
from secateur.thinning import change_without, find_residual_blocks, rebuild
from secateur.training import Device
from secateur.training.batches import normalized

_NUM_IMAGES, _BATCH_SIZE = 512, 128
_SEED = 0
"""Which images are taken never depends on a study's seed: it is to be the same order of blocks for all."""
_VERSION = 1
"""Part of the cache key: raised when the same inputs come to give other figures."""


def importance_of_blocks(unpruned_key: str, splits: Splits, store: Store, device: Device) -> dict[str, float]:
    """Return residual block -> change of the predictions without it; see `secateur.thinning.change_without`.

    Args:
        unpruned_key: Artifact key of the unpruned network's checkpoint.
        splits: Of their training images a fixed part is taken, as it is, never of those that validate.
        store: Where figures are kept.
        device: Where to compute.
    """
    parts = {"version": _VERSION, "unpruned": unpruned_key, "data": data_identity(splits), "num_images": _NUM_IMAGES}
    key = f"cache/blocks/{digest_of(parts)}.json"
    try:
        return {name: float(change) for name, change in get_json(store, key).items()}
    except NotFoundError:
        pass
    module = rebuild(get_object(store, unpruned_key)).module.to(device)
    images_NCHW = _drawn(splits, device)
    blocks = find_residual_blocks(module, images_NCHW[0][:1])
    progress.message(f"How much each of {len(blocks)} residual blocks matters is computed, once.")
    found = change_without(module, blocks, images_NCHW)
    put_json(store, key, found)
    return found


def _drawn(splits: Splits, device: Device) -> list[Tensor]:
    images = splits.train
    drawn_N = torch.randperm(len(images.labels_N), generator=Generator().manual_seed(_SEED))[:_NUM_IMAGES]
    batches = images.batches(torch.split(drawn_N, _BATCH_SIZE))
    return [normalized(batch_NHWC.to(device), splits.normalize) for batch_NHWC in batches]
