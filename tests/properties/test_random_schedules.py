"""Right schedules never crash, and leave a network that runs; broken ones are told where they are broken."""

from __future__ import annotations

import contextlib
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
import yaml
from hypothesis import event, given, settings
from torch import Tensor
from torch.optim import SGD

from secateur.config.located import parse_yaml
from secateur.errors import ScheduleError, SecateurError, ThinningError
from secateur.pruning import ScheduleEngine
from secateur.results import Scores
from secateur.schedule import Schedule, check_fit, parse_schedule
from secateur.thinning import trace_channel_spaces
from tests.flows.tiny import NUM_CLASSES, SIZE, TinyNetwork
from tests.properties.schedules import NUM_EPOCHS, broken_schedules, mutated_schedules, right_schedules

IMAGES_NCHW = torch.randn(6, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
LABELS_N = torch.arange(6) % NUM_CLASSES
SHAPES = {name: tuple(parameter.shape) for name, parameter in TinyNetwork(NUM_CLASSES).named_parameters()}
SPACES = trace_channel_spaces(TinyNetwork(NUM_CLASSES), IMAGES_NCHW[:1])
NUM_MINIBATCHES = 2


def checked(document: Any) -> Schedule:
    schedule = parse_schedule(parse_yaml(yaml.safe_dump(document, sort_keys=False), "s.yaml", ScheduleError))
    check_fit(schedule, SHAPES, "tiny", NUM_EPOCHS)
    return schedule


def train(schedule: Schedule) -> Tensor:
    """Take the moments of a short training, and return the logits of the network that is left."""
    torch.manual_seed(0)
    model = TinyNetwork(NUM_CLASSES)
    engine = ScheduleEngine(model, schedule, IMAGES_NCHW[:1], base_lr=0.01, num_epochs=NUM_EPOCHS, spaces=SPACES)
    optimizer = SGD(model.parameters(), lr=0.01, momentum=0.9)
    engine.on_training_begin(optimizer)
    for epoch in range(NUM_EPOCHS):
        engine.on_epoch_begin(epoch)
        for minibatch in range(NUM_MINIBATCHES):
            engine.on_minibatch_begin(epoch, minibatch, NUM_MINIBATCHES)
            optimizer.zero_grad()
            engine.before_backward(F.cross_entropy(model(IMAGES_NCHW), LABELS_N)).backward()  # type: ignore[no-untyped-call]
            engine.before_optimizer_step()
            optimizer.step()
            engine.on_minibatch_end(epoch, minibatch, NUM_MINIBATCHES)
        engine.on_epoch_end(epoch, optimizer, Scores(top1=50, top5=100, loss=1, num_images=6))
    for name, parameter in model.named_parameters():
        assert optimizer.state[parameter]["momentum_buffer"].shape == parameter.shape
        if (mask := engine.masks.get(name)) is not None:
            assert mask.shape == parameter.shape
    for name, kept in engine.kept.items():
        assert model.get_submodule(name).out_channels == len(kept)
    logits_NK: Tensor = model.eval()(IMAGES_NCHW)
    return logits_NK


def right_schedules_run(document: dict[str, Any]) -> None:
    schedule = checked(document)
    try:
        assert train(schedule).isfinite().all()
    except (ThinningError, ScheduleError) as exc:  # pruners leave nothing of a layer, or nothing to make blocks of
        event(f"refused: {type(exc).__name__}")


def broken_schedules_are_located(document: Any) -> None:
    with pytest.raises(ScheduleError) as caught:
        checked(document)
    problems = caught.value.problems
    assert problems
    assert any(re.match(r"s\.yaml:\d+: .+", problem) for problem in problems), problems


def mutated_schedules_are_told_or_run(document: Any) -> None:
    try:
        schedule = checked(document)
    except ScheduleError as exc:
        assert exc.problems
        assert all(re.match(r"s\.yaml(:\d+)?: .+", problem) for problem in exc.problems), exc.problems
    else:
        event("still right")
        with contextlib.suppress(SecateurError):  # such as: a huge learning rate makes weights NaN
            train(schedule)


test_right_schedules_run = settings(max_examples=200)(given(right_schedules())(right_schedules_run))
test_broken_schedules_are_located = settings(max_examples=200)(given(broken_schedules())(broken_schedules_are_located))
test_mutated_schedules_are_told_or_run = settings(max_examples=200)(
    given(mutated_schedules())(mutated_schedules_are_told_or_run)
)


@pytest.mark.slow
@settings(max_examples=2000)
@given(right_schedules())
def test_many_right_schedules_run(document: dict[str, Any]) -> None:
    right_schedules_run(document)


@pytest.mark.slow
@settings(max_examples=2000)
@given(broken_schedules())
def test_many_broken_schedules_are_located(document: dict[str, Any]) -> None:
    broken_schedules_are_located(document)


@pytest.mark.slow
@settings(max_examples=2000)
@given(mutated_schedules())
def test_many_mutated_schedules_are_told_or_run(document: Any) -> None:
    mutated_schedules_are_told_or_run(document)
