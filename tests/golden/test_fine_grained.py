"""Element-wise, gradual, splicing and other pruners, epoch by epoch, as the real Distiller masks."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from secateur.config.located import Located
from secateur.methods.sparsity import gradual_sparsity
from secateur.pruning import ScheduleEngine
from secateur.schedule import parse_schedule
from tests.golden.networks import IMAGES_NCHW, assert_logits, network
from tests.golden.regenerate import load_golden

GOLDEN = load_golden("distiller_fine_grained")
TIES = {"level_star": ("layer2.0.downsample.1.weight", "layer3.0.downsample.1.weight")}
"""All ones: Distiller removes all where half is asked for, which leaves nothing of the layer (docs/distiller.md)."""


def summary(mask: Tensor) -> dict[str, Any]:
    bits = np.packbits(mask.numpy().astype(np.uint8).ravel())
    digest = hashlib.sha256(bits.tobytes()).hexdigest()[:16]
    return {"n": mask.numel(), "zeros": int((~mask).sum()), "mask_sha256_16": digest}


@pytest.mark.parametrize("name", GOLDEN["runs"])
def test_masks_are_distillers(name: str) -> None:
    run = GOLDEN["runs"][name]
    module = network(run["model"])
    schedule = parse_schedule(Located(value=run["schedule"], source=name))
    engine = ScheduleEngine(module, schedule, IMAGES_NCHW[:1], base_lr=0.1, num_epochs=len(run["per_epoch"]))
    for expected in run["per_epoch"]:
        engine.on_epoch_begin(expected["epoch"])
        found = {f"module.{parameter}": summary(mask) for parameter, mask in engine.masks.items()}
        for parameter in TIES.get(name, ()):
            mask = engine.masks[parameter]
            assert found.pop(f"module.{parameter}")["zeros"] == mask.numel() // 2
            assert expected["masks"].pop(f"module.{parameter}")["zeros"] == mask.numel()
        assert found == expected["masks"], f"epoch {expected['epoch']}"
        engine.on_minibatch_begin(expected["epoch"], 0, 1)
    if name not in TIES:
        assert_logits(module(IMAGES_NCHW), run["final_logits"])


@pytest.mark.parametrize("setting", GOLDEN["agp_targets"])
def test_sparsity_grows_as_distillers(setting: str) -> None:
    initial, final, start, end, frequency = (float(x) for x in re.findall(r"=([\d.]+)", setting))
    epochs = range(int(start), int(end), int(frequency))
    case = GOLDEN["agp_targets"][setting]
    assert list(epochs) == case["epochs"]
    found = [gradual_sparsity(initial, final, epoch, epochs) for epoch in epochs]
    assert found == pytest.approx(case["target_sparsity"], abs=1e-12)
