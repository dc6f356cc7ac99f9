from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD

from secateur.training import TrainingSettings
from secateur.training.optimization import WeightAverage, learning_rate, make_optimizer
from tests.training.networks import small_network


def settings(**others: Any) -> TrainingSettings:
    return TrainingSettings(**{"epochs": 10, "lr": 0.1, **others})


@pytest.mark.parametrize(
    ("curve", "rates"),
    [
        ("cosine", {0: 0.1, 2.5: 0.0853553, 5: 0.05, 10: 0.0}),
        ("one_cycle", {0: 0.004, 1.5: 0.052, 3: 0.1, 6.5: 0.05, 10: 0.0}),
        ("step", {0: 0.1, 4.9: 0.1, 5: 0.01, 7.4: 0.01, 7.5: 0.001}),
    ],
)
def test_learning_rates_of_curves(curve: Any, rates: dict[float, float]) -> None:
    for epoch, rate in rates.items():
        assert learning_rate(settings(lr_curve=curve), epoch) == pytest.approx(rate, abs=1e-6)


def test_a_warm_up_rises_from_zero_to_the_curve() -> None:
    warm = settings(lr_curve="step", warmup_epochs=2.0)
    assert [learning_rate(warm, epoch) for epoch in (0, 0.5, 1, 2)] == pytest.approx([0, 0.025, 0.05, 0.1])


def step(optimizer: SGD, model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()


def test_vectors_do_not_decay_on_request() -> None:
    model = small_network()
    nn.init.ones_(model[8].bias)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step(make_optimizer(model, settings(weight_decay=0.5, decay_vectors=False)), model)
    for name, parameter in model.named_parameters():
        share = 0.95 if parameter.dim() > 1 else 1.0  # lr * weight_decay
        torch.testing.assert_close(parameter.detach(), before[name] * share)
    step(make_optimizer(model, settings(weight_decay=0.5)), model)
    torch.testing.assert_close(model[8].bias.detach(), torch.full((10,), 0.95))


def test_an_average_is_the_recurrence_and_forgets_faster_at_first() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, 0.15)
    expected = model.weight.item()
    for index, value in enumerate([2.0, 4.0, 8.0]):
        nn.init.constant_(model.weight, value)
        average.update(model)
        kept = min(0.15, (1 + index) / (10 + index))
        expected = kept * expected + (1 - kept) * value
    with average.applied_to(model):
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 8.0
    average.copy_to(model)
    assert model.weight.item() == pytest.approx(expected)


def test_an_average_follows_masks_and_thinning() -> None:
    model = nn.Linear(2, 2, bias=False)
    average = WeightAverage(model, 0.9)
    model.weight.data[0] = 0.0  # masked
    average.update(model)
    with average.applied_to(model):
        assert model.weight[0].abs().sum() == 0
        assert model.weight[1].abs().sum() > 0
    model.weight.data = torch.full((1, 2), 3.0)  # thinned
    average.update(model)
    average.copy_to(model)
    assert model.weight.tolist() == [[3.0, 3.0]]
