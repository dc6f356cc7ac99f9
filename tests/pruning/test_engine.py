"""The engine as the trainer's callbacks: what happens when, on a real training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from secateur.config.located import Located
from secateur.errors import ScheduleError, ThinningError
from secateur.methods import keep_mask
from secateur.pruning import ScheduleEngine
from secateur.results import Scores
from secateur.schedule import Schedule, parse_schedule
from secateur.training import TrainingResult, TrainingSettings, train
from tests.flows.tiny import SIZE, TinyNetwork
from tests.schedule.documents import TEXT, THINNER, parse_text, pruner, schedule_of
from tests.training.networks import Unchanged, some_images

EXAMPLE_NCHW = torch.zeros(1, 3, SIZE, SIZE)
FIRST, SECOND = "blocks.0.conv1", "blocks.1.conv1"
COUPLED = ["conv1.weight", "blocks.0.conv2.weight", "blocks.1.conv2.weight"]
"""The layers whose filters the residual sums add up."""


def make_engine(schedule: Schedule, num_epochs: int = 3, seed: int = 0) -> tuple[TinyNetwork, ScheduleEngine]:
    torch.manual_seed(seed)
    model = TinyNetwork(3)
    return model, ScheduleEngine(model, schedule, EXAMPLE_NCHW, base_lr=0.1, num_epochs=num_epochs)


def run(model: nn.Module, engine: ScheduleEngine, epochs: int = 3) -> TrainingResult:
    images = some_images(12, num_classes=3, size=SIZE)
    settings = TrainingSettings(epochs=epochs, lr=0.1, batch_size=4)
    return train(model, images, images, settings, engine, normalize=Unchanged())


def silent(model: TinyNetwork, layer: str, dim: int = 0) -> list[int]:
    weight = model.get_submodule(layer).weight
    assert isinstance(weight, Tensor)
    return (weight.detach().transpose(0, dim).flatten(1).abs().sum(1) == 0).nonzero().flatten().tolist()


def masked(engine: ScheduleEngine) -> dict[str, tuple[int, list[int]]]:
    """Return parameter -> (dimension, indices) of masked structures."""
    found = {}
    for name, mask in engine.masks.items():
        gone = {dim: (~mask).transpose(0, dim).flatten(1).all(1).nonzero().flatten().tolist() for dim in (0, 1)}
        (found[name],) = [(dim, indices) for dim, indices in gone.items() if indices]
    return found


def test_masks_are_computed_when_the_epoch_begins_and_applied_with_its_first_minibatch() -> None:
    model, engine = make_engine(schedule_of((pruner([f"{FIRST}.weight"]), [1])))
    engine.on_epoch_begin(0)
    engine.on_minibatch_begin(0, 0, 3)
    assert masked(engine) == {}
    weakest = keep_mask(model.get_parameter(f"{FIRST}.weight"), "filters", "L1", 0.5).logical_not().nonzero().flatten()
    engine.on_epoch_begin(1)
    assert masked(engine) == {f"{FIRST}.weight": (0, weakest.tolist())}
    assert silent(model, FIRST) == []
    engine.on_minibatch_begin(1, 0, 3)
    assert silent(model, FIRST) == weakest.tolist()


def test_masked_weights_stay_zero_in_every_later_epoch() -> None:
    model, engine = make_engine(schedule_of((pruner([f"{FIRST}.weight"]), [0])))
    run(model, engine)
    assert len(silent(model, FIRST)) == 4
    assert model.get_parameter(f"{FIRST}.weight").shape[0] == 8
    assert masked(engine)[f"{FIRST}.weight"] == (0, silent(model, FIRST))


def test_thinning_in_the_middle_of_a_training_trims_the_momentum() -> None:
    steps = (pruner([f"{FIRST}.weight"]), [1]), (THINNER, [1])
    model, engine = make_engine(schedule_of(*steps))
    seen: list[tuple[int, int, bool]] = []

    class Watched(ScheduleEngine):
        def before_backward(self, loss: Tensor) -> Tensor:
            if self._optimizer is not None:
                weight = model.get_parameter(f"{FIRST}.weight")
                momentum = self._optimizer.state[weight].get("momentum_buffer")
                seen.append((len(weight), 0 if momentum is None else len(momentum), momentum is not None))
            return loss

    engine = Watched(model, engine._schedule, EXAMPLE_NCHW, base_lr=0.1, num_epochs=3)
    result = run(model, engine)
    assert len(result.epochs) == 3
    assert seen == [(8, 8, True)] * 3 + [(4, 4, True)] * 6  # momentum is kept, and fits
    conv1, bn1, conv2 = (model.get_submodule(f"blocks.0.{name}") for name in ("conv1", "bn1", "conv2"))
    assert (conv1.out_channels, bn1.num_features, conv2.in_channels) == (4, 4, 4)
    assert len(engine.kept[FIRST]) == 4
    assert engine.kept[SECOND] == tuple(range(8))
    assert masked(engine) == {}


def test_trimmed_momentum_belongs_to_the_filters_that_stay() -> None:
    model, engine = make_engine(schedule_of((pruner([f"{FIRST}.weight"]), [1]), (THINNER, [1])))
    optimizer = SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(2, 3, SIZE, SIZE)).square().sum().backward()
    optimizer.step()
    weight = model.get_parameter(f"{FIRST}.weight")
    momentum = optimizer.state[weight]["momentum_buffer"].clone()
    engine.on_epoch_end(0, optimizer, Scores(top1=0, top5=0, loss=0, num_images=1))
    engine.on_epoch_begin(1)
    engine.on_minibatch_begin(1, 0, 1)
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], momentum[list(engine.kept[FIRST])])
    consumer = model.get_parameter("blocks.0.conv2.weight")
    assert optimizer.state[consumer]["momentum_buffer"].shape == consumer.shape
    assert consumer.grad is not None
    assert consumer.grad.shape == consumer.shape


def test_repeated_pruning_counts_what_is_left() -> None:
    _, engine = make_engine(schedule_of((pruner([f"{FIRST}.weight"]), [0, 1]), (THINNER, [0, 1])))
    engine.prune_before_training()
    after_one = engine.kept[FIRST]
    engine.on_epoch_begin(1)
    engine.on_minibatch_begin(1, 0, 1)
    assert (len(after_one), len(engine.kept[FIRST])) == (4, 2)  # 8 -> 4 -> 2
    assert set(engine.kept[FIRST]) < set(after_one)


def test_of_two_pruners_on_one_weight_the_later_wins() -> None:
    steps = (pruner([f"{FIRST}.weight"], 0.75), [0]), (pruner([f"{FIRST}.weight"], 0.25), [0])
    model, engine = make_engine(schedule_of(*steps))
    engine.prune_before_training()
    assert len(silent(model, FIRST)) == 2


def test_a_pruner_that_removes_nothing_leaves_an_older_mask() -> None:
    steps = (pruner([f"{FIRST}.weight"], 0.5), [0]), (pruner([f"{FIRST}.weight"], 0.0), [0])
    model, engine = make_engine(schedule_of(*steps))
    engine.prune_before_training()
    assert len(silent(model, FIRST)) == 4


def test_an_extension_before_the_pruner_thins_nothing() -> None:
    model, engine = make_engine(schedule_of((THINNER, [0]), (pruner([f"{FIRST}.weight"]), [0])))
    engine.prune_before_training()
    assert model.get_submodule(FIRST).out_channels == 8
    assert len(silent(model, FIRST)) == 4
    assert len(masked(engine)[f"{FIRST}.weight"][1]) == 4


def test_an_extension_between_two_pruners_thins_both() -> None:
    steps = (pruner([f"{FIRST}.weight"]), [0]), (THINNER, [0]), (pruner([f"{SECOND}.weight"]), [0])
    _, engine = make_engine(schedule_of(*steps))
    engine.prune_before_training()
    assert (len(engine.kept[FIRST]), len(engine.kept[SECOND])) == (4, 4)


def test_all_pruners_of_an_epoch_see_the_weights_as_they_were() -> None:
    channels = pruner(["blocks.0.conv2.weight"], 0.5, group_type="Channels")
    one_model, together = make_engine(schedule_of((pruner([f"{FIRST}.weight"]), [0]), (channels, [0])))
    other_model, alone = make_engine(schedule_of((channels, [0])))
    together.prune_before_training()
    alone.prune_before_training()
    assert silent(one_model, "blocks.0.conv2", 1) == silent(other_model, "blocks.0.conv2", 1)


def test_a_mask_survives_the_thinning_of_the_other_dimension() -> None:
    """Filters of the first layer go; channels of the second that were masked, and are still there, stay at zero."""
    filters = pruner([f"{FIRST}.weight"], 0.5)
    channels = pruner(["blocks.0.conv2.weight"], 0.5, group_type="Channels")
    model, engine = make_engine(schedule_of((filters, [0]), (channels, [0]), (THINNER, [0])))
    engine.on_epoch_begin(0)
    gone = set(masked(engine)[f"{FIRST}.weight"][1])
    channels_gone = set(masked(engine)["blocks.0.conv2.weight"][1])
    left = channels_gone - gone
    assert left, "a seed for which there is something to see"
    engine.on_minibatch_begin(0, 0, 1)
    expected = [position for position, index in enumerate(engine.kept[FIRST]) if index in left]
    assert masked(engine) == {"blocks.0.conv2.weight": (1, expected)}
    run(model, engine, epochs=2)
    assert silent(model, "blocks.0.conv2", 1) == expected


def test_a_leader_decides_for_all() -> None:
    leader = pruner([f"module.{name}" for name in COUPLED], 0.5, group_dependency="Leader")
    model, engine = make_engine(schedule_of((leader, [0]), (THINNER, [0])))
    kept = keep_mask(model.get_parameter("conv1.weight"), "filters", "L1", 0.5).nonzero().flatten().tolist()
    engine.prune_before_training()
    assert {tuple(engine.kept[name.removesuffix(".weight")]) for name in COUPLED} == {tuple(kept)}
    assert model.fc.in_features == 4
    assert model(torch.randn(2, 3, SIZE, SIZE)).shape == (2, 3)


def test_a_leader_decides_anew_from_what_is_left() -> None:
    leader = pruner(COUPLED, 0.5, group_dependency="Leader")
    model, engine = make_engine(schedule_of((leader, [0, 1]), (THINNER, [0, 1])))
    run(model, engine)
    assert {len(engine.kept[name.removesuffix(".weight")]) for name in COUPLED} == {2}  # 8 -> 4 -> 2


def test_coupled_layers_must_agree() -> None:
    model, engine = make_engine(schedule_of((pruner(COUPLED[1:2]), [0]), (THINNER, [0])))
    with pytest.raises(
        ThinningError,
        match=r"Layers 'conv1' and 'blocks.0.conv2' share their channels.*\(0 and 4\). Prune all of "
        r"conv1, blocks.\d.conv2, blocks.\d.conv2 in one pruner with 'group_dependency: Leader', or none.",
    ):
        engine.prune_before_training()
    assert model.get_submodule("blocks.0.conv2").out_channels == 8
    assert engine.kept["blocks.0.conv2"] == tuple(range(8))


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        ([(pruner(COUPLED[:1]), [1])], "pruner 'p0': the filters of conv1, blocks.1.conv2, blocks.0.conv2 can only go"),
        ([(pruner(COUPLED), [1])], "the filters of conv1, blocks.1.conv2, blocks.0.conv2 can only go together"),
        ([(pruner(["fc.weight"], group_type="Rows"), [0])], "the channels of .* can only go together"),
    ],
    ids=["one of them", "each in its own way", "channels"],
)
def test_what_cannot_be_thinned_later_is_refused_before_training(
    steps: list[tuple[dict[str, Any], list[int]]], problem: str
) -> None:
    thin = "remove_channels" if "Rows" in str(steps) else "remove_filters"
    with pytest.raises(ScheduleError, match=problem):
        make_engine(schedule_of(*steps, (THINNER, [2]), thin=thin))
    make_engine(schedule_of(*steps, (THINNER, [9]), thin=thin))  # behind the end of training


def test_pruning_before_training_is_done_once() -> None:
    steps = (pruner([f"{FIRST}.weight"]), [0]), (THINNER, [0])
    model, engine = make_engine(schedule_of(*steps))
    engine.prune_before_training()
    run(model, engine, epochs=2)
    assert len(engine.kept[FIRST]) == 4
    same_model, same_engine = make_engine(schedule_of(*steps))
    run(same_model, same_engine, epochs=2)  # the trainer calls it instead
    assert same_engine.kept == engine.kept
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), same_model.parameters(), strict=True))


def test_learning_rates_follow_absolute_epochs() -> None:
    text = TEXT[: TEXT.index("- pruner")].replace("starting_epoch: 0", "starting_epoch: 1").replace("0.9", "0.5")
    model, engine = make_engine(parse_text(text), num_epochs=4)
    rates = [epoch.lr for epoch in run(model, engine, epochs=4).epochs]
    assert rates == pytest.approx([0.1, 0.1, 0.025, 0.0125])  # not 0.05: the jump


def test_the_moments_come_in_distillers_order() -> None:
    model, engine = make_engine(schedule_of((pruner([f"{FIRST}.weight"]), [0])))
    moments: list[str] = []

    class Recording(ScheduleEngine):
        def on_epoch_begin(self, epoch: int) -> None:
            moments.append(f"epoch {epoch} begins")
            super().on_epoch_begin(epoch)

        def on_minibatch_begin(self, epoch: int, minibatch: int, num_minibatches: int) -> None:
            moments.append(f"minibatch {minibatch} begins")
            super().on_minibatch_begin(epoch, minibatch, num_minibatches)

        def before_backward(self, loss: Tensor) -> Tensor:
            moments.append("backward")
            return super().before_backward(loss)

        def before_optimizer_step(self) -> None:
            moments.append("step")
            assert silent(model, FIRST) == masked(self)[f"{FIRST}.weight"][1]
            super().before_optimizer_step()

        def on_minibatch_end(self, epoch: int, minibatch: int, num_minibatches: int) -> None:
            moments.append(f"minibatch {minibatch} ends")
            super().on_minibatch_end(epoch, minibatch, num_minibatches)
            assert silent(model, FIRST) == masked(self)[f"{FIRST}.weight"][1]

        def on_epoch_end(self, epoch: int, optimizer: Optimizer, validation: Scores) -> None:
            moments.append(f"epoch {epoch} ends")
            super().on_epoch_end(epoch, optimizer, validation)

    engine = Recording(model, engine._schedule, EXAMPLE_NCHW, base_lr=0.1, num_epochs=1)
    run(model, engine, epochs=1)
    minibatches: list[Any] = [
        moment for i in range(3) for moment in (f"minibatch {i} begins", "backward", "step", f"minibatch {i} ends")
    ]
    assert moments == ["epoch 0 begins", *minibatches, "epoch 0 ends"]


# --- options of policies, beside the golden trainings


def with_options(document: dict[str, Any], **options: Any) -> Schedule:
    """Return a schedule whose first policy has `args`, and acts in epochs 0 and 1."""
    document["policies"][0] = {"pruner": {"instance_name": "p0", "args": options}, "epochs": [0, 1]}
    return parse_schedule(Located(value=document, source="s"))


def of_pruners(*entries: dict[str, Any]) -> dict[str, Any]:
    return {
        "pruners": {f"p{i}": entry for i, entry in enumerate(entries)},
        "policies": [{"pruner": {"instance_name": f"p{i}"}, "epochs": [0]} for i in range(len(entries))],
    }


def test_copies_are_of_the_weights_before_any_mask() -> None:
    """Also where two pruners mask, one after the other, before one forward pass."""
    document = of_pruners(pruner([f"{FIRST}.weight"]), pruner([f"{SECOND}.weight"]))
    model, engine = make_engine(with_options(document, use_double_copies=True, mask_on_forward_only=True))
    dense = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    engine._schedule = replace(engine._schedule, policies=engine._schedule.policies[::-1])
    engine.on_epoch_begin(0)
    engine.on_minibatch_begin(0, 0, 1)
    assert len(silent(model, FIRST)) == len(silent(model, SECOND)) == 4
    engine.before_optimizer_step()
    assert all(torch.equal(parameter, dense[name]) for name, parameter in model.named_parameters())


def test_a_policys_levels_replace_the_pruners() -> None:
    levels = {"class": "SparsityLevelParameterPruner", "levels": {f"module.{FIRST}.weight": 0.25}}
    model, engine = make_engine(with_options(of_pruners(levels), levels={f"module.{SECOND}.weight": 0.5}))
    engine.prune_before_training()
    (name,) = engine.masks
    assert name == f"{SECOND}.weight"
    assert int((model.get_parameter(name) == 0).sum()) == model.get_parameter(name).numel() // 2


def test_a_regularizers_threshold_leaves_a_pruners_mask() -> None:
    regularizer = {"class": "L1Regularizer", "reg_regims": {f"{FIRST}.weight": 0.01}, "threshold_criteria": "Max"}
    document = of_pruners(pruner([f"{FIRST}.weight"]))
    document["regularizers"] = {"r": regularizer}
    document["policies"].append({"regularizer": {"instance_name": "r", "args": {"keep_mask": True}}, "epochs": [0]})
    model, engine = make_engine(parse_schedule(Located(value=document, source="s")))
    run(model, engine, epochs=2)
    zeros = (model.get_parameter(f"{FIRST}.weight") == 0).flatten(1)
    assert int(zeros.all(1).sum()) == 4
    assert int(zeros.sum()) > 4 * zeros.shape[1]  # and what the regularizer made small


def test_only_training_images_choose_filters() -> None:
    mean = pruner([f"{FIRST}.weight"], **{"class": "ActivationMeanRankedFilterPruner"})
    model, engine = make_engine(schedule_of((mean, [1]), (THINNER, [1])))
    images_NCHW = torch.rand(4, 3, SIZE, SIZE)
    model(images_NCHW)  # evaluated, or recalibrated, before
    engine.on_training_begin(torch.optim.SGD(model.parameters(), lr=0.1))
    engine.on_epoch_begin(0)
    model(images_NCHW)
    engine.on_minibatch_end(0, 0, 1)
    model(images_NCHW)  # the epoch's evaluation
    assert engine._observer is not None
    assert set(engine._observer.state_dict()["num_images"].values()) == {4}


def test_activations_are_watched_while_training_and_no_longer() -> None:
    mean = pruner([f"{FIRST}.weight"], **{"class": "ActivationMeanRankedFilterPruner"})
    model, engine = make_engine(schedule_of((mean, [1]), (THINNER, [1])))
    assert model.get_submodule("blocks.0.relu1")._forward_hooks
    run(model, engine)
    assert len(engine.kept[FIRST]) == 4
    assert not model.get_submodule("blocks.0.relu1")._forward_hooks
