"""Losses and thresholding of regularizers, as the real Distiller computes them."""

from __future__ import annotations

import pytest
import torch
from torch.optim import SGD

from secateur.config.located import Located
from secateur.errors import ScheduleError
from secateur.pruning import ScheduleEngine
from secateur.results import Scores
from secateur.schedule import parse_schedule
from tests.golden.networks import IMAGES_NCHW, network
from tests.golden.regenerate import load_golden

CASES = load_golden("distiller_regularizers")
REFUSED = {
    "gl_Channels+4D": "s: regularizer 'r': reg_regims.module.layer1.0.conv1.weight input should be '2D', 'Rows'",
    "gl_bad": "s: regularizer 'r': reg_regims.module.layer1.0.conv1.weight input should be '2D', 'Rows'",
    "gl_thr_bad": "s: regularizer 'r': threshold_criteria input should be 'Max' or 'Mean_Abs', got 'Foo'.",
    "wrong_type": r"s: regularizer 'r': reg_regims input should be a valid dictionary, got \[1, 2\].",
    "drop_filter": "s: regularizer 'r': there is no regularizer class 'DropFilterRegularizer'.",
}
"""Those that Distiller refuses, in one way or the other, or adds nothing for."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_losses_and_zeros_are_distillers(name: str) -> None:
    case = CASES[name]
    module = network(case["model"])
    schedule = parse_schedule(Located(value=case["schedule"], source="s"))
    engine = ScheduleEngine(module, schedule, IMAGES_NCHW[:1], base_lr=0.1, num_epochs=2)
    engine.on_epoch_begin(0)
    engine.on_minibatch_begin(0, 0, 2)
    loss = engine.before_backward(torch.tensor(case["loss_in"]))
    assert loss.item() == pytest.approx(case["overall"], rel=1e-6)
    engine.on_minibatch_end(0, 0, 2)
    for parameter, num_zeros in case["zeros_after_mb0"].items():
        assert int((module.get_parameter(parameter.removeprefix("module.")) == 0).sum()) == num_zeros
    assert not engine.masks
    assert all(case["mask_after_mb0_is_none"].values())
    engine.on_minibatch_end(0, 1, 2)
    engine.on_epoch_end(0, SGD(module.parameters(), lr=0.1), Scores(top1=0, top5=0, loss=0, num_images=1))
    engine.on_epoch_begin(1)
    for minibatch in range(2):
        engine.on_minibatch_begin(1, minibatch, 2)
        engine.on_minibatch_end(1, minibatch, 2)
    for parameter, is_none in case["mask_after_last_mb_is_none"].items():
        assert (parameter.removeprefix("module.") not in engine.masks) == is_none


@pytest.mark.parametrize("name", REFUSED)
def test_what_makes_no_sense_is_refused(name: str) -> None:
    with pytest.raises(ScheduleError, match=REFUSED[name].replace("+", r"\+")):
        parse_schedule(Located(value=CASES[name]["schedule"], source="s"))
