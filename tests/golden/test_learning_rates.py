"""Learning rates, epoch by epoch, as the real Distiller sets them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD

from secateur.config.located import Located
from secateur.pruning import ScheduleEngine
from secateur.results import Scores
from secateur.schedule import parse_schedule
from tests.golden.networks import IMAGES_NCHW
from tests.golden.regenerate import load_golden

SEQUENCES = load_golden("distiller_lr_sequences")


def rates_of(document: dict[str, Any], base_lr: float, losses: list[float]) -> list[float]:
    module = nn.Linear(1, 1)
    schedule = parse_schedule(Located(value=document, source="s"))
    engine = ScheduleEngine(module, schedule, IMAGES_NCHW, base_lr=base_lr, num_epochs=len(losses))
    optimizer = SGD(module.parameters(), lr=base_lr)
    rates = []
    engine.on_training_begin(optimizer)
    for epoch, loss in enumerate(losses):
        engine.on_epoch_begin(epoch)
        engine.on_minibatch_begin(epoch, 0, 1)
        rates.append(optimizer.param_groups[0]["lr"])
        engine.on_epoch_end(epoch, optimizer, Scores(top1=50 - loss, top5=100, loss=loss, num_images=1))
    return rates


@pytest.mark.parametrize(("name", "mode"), [*((name, "min") for name in SEQUENCES), ("plateau", "max")])
def test_learning_rates_fall_as_distillers(name: str, mode: str) -> None:
    case = copy.deepcopy(SEQUENCES[name])
    if mode == "max":  # of top1, instead of the loss
        case["schedule"]["lr_schedulers"]["l"]["mode"] = "max"
    expected = case["lr_used_in_epoch"]
    # The losses are not among the golden data; these get no better after epoch 4, which gives Distiller's rates.
    losses = [float(max(10 - epoch, 6)) for epoch in range(len(expected))]
    assert rates_of(case["schedule"], case["lr0"], losses) == pytest.approx(expected, rel=1e-6)


def test_the_dissertations_learning_rate_jumps_in_epoch_11() -> None:
    rates = SEQUENCES["thesis_exp"]["lr_used_in_epoch"]
    assert rates[:11] == [0.1] * 11
    assert rates[11:13] == pytest.approx([0.1 * 0.95**11, 0.1 * 0.95**12])


def test_a_warm_up_acts_in_epoch_0() -> None:
    document = {
        "lr_schedulers": {"l": {"class": "LinearLR", "start_factor": 0.25, "total_iters": 3}},
        "policies": [
            {"lr_scheduler": {"instance_name": "l"}, "starting_epoch": 0, "ending_epoch": 5, "frequency": 1},
        ],
    }
    assert rates_of(document, 0.1, [1.0] * 5) == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1])
