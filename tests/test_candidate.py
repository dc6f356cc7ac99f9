"""From a study and a point of its search space to a network on the shelf."""

from __future__ import annotations

import copy
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur import block_importance
from secateur.admissibility import check_against_model, check_study, schedule_of
from secateur.block_importance import BlockImportance
from secateur.candidate import Workshop
from secateur.config import Study
from secateur.datasets import ImageSet, Splits
from secateur.errors import ModelError, ScheduleError, StudyError, ThinningError, TrainingError
from secateur.results import Compressed
from secateur.store import get_json, get_object, put_object
from secateur.thinning import measure_change_without, rebuild, save_network, unpruned
from tests.fakes import MemoryStore
from tests.flows.tiny import SCHEDULE, STUDY, TinyNetwork, images

HERE = "python:tests.test_candidate"


def make_study(**changes: Any) -> Study:
    """Return the tiny study, its schedule written out; nothing is trained unless `changes` say so."""
    return Study.model_validate(
        {**STUDY, "schedule": copy.deepcopy(SCHEDULE), "device": "cpu", "training": {"epochs": 0}, **changes}
    )


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(3)
    path = tmp_path / "tiny.pt"
    torch.save(TinyNetwork(3).state_dict(), path)
    return path


def make_pair(store: MemoryStore, study: Study, **parameters: float) -> tuple[Compressed, bool]:
    """Make the unpruned network and a candidate, of which `pruner_0=0.5` is a parameter."""
    workshop = Workshop(study=study, store=store)
    dense, _ = workshop.make_unpruned()
    return workshop.make_candidate(
        dense.checkpoint, {f"{name}.desired_sparsity": value for name, value in parameters.items()}
    )


@pytest.mark.parametrize(
    ("model", "epochs", "draws"), [("mobilenet_v2", 1, True), ("mobilenet_v2", 0, False), ("resnet18", 1, False)]
)
def test_networks_with_dropout_draw_at_random(store: MemoryStore, model: str, epochs: int, draws: bool) -> None:
    study = make_study(model=f"torchvision:{model}", training={"epochs": epochs})
    assert Workshop(study=study, store=store).draws is draws


def test_the_residual_block_goes_that_predictions_miss_least(
    store: MemoryStore, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = torch.load(weights, weights_only=True)
    state["blocks.0.bn2.weight"].zero_()  # does nothing, with large weights
    state["blocks.0.conv1.weight"].mul_(100)
    state["blocks.1.bn2.weight"].mul_(5)
    torch.save(state, weights)
    schedule = copy.deepcopy(SCHEDULE)
    schedule["pruners"]["depth"] = {"class": "ResidualBlockRemover", "blocks": 1}
    schedule["policies"].insert(0, {"pruner": {"instance_name": "depth"}, "epochs": [0]})
    study = make_study(weights=weights, schedule=schedule)
    workshop = Workshop(study=study, store=store)
    dense, _ = workshop.make_unpruned()
    assert workshop.prune(dense.checkpoint, {}).network.removed_blocks == ("blocks.0",)
    monkeypatch.setattr(block_importance, "measure_change_without", None)  # not called again, by whomever
    again = Workshop(study=study, store=store).prune(dense.checkpoint, {"pruner_1.desired_sparsity": 0.2})
    assert again.network.removed_blocks == ("blocks.0",)


def test_blocks_are_weighed_with_training_images_of_any_network(store: MemoryStore) -> None:
    """Also of one that flattens its features with `view`, which takes no channels-last ones."""
    schedule = copy.deepcopy(SCHEDULE)
    schedule["pruners"]["depth"] = {"class": "ResidualBlockRemover", "blocks": 1}
    schedule["policies"].insert(0, {"pruner": {"instance_name": "depth"}, "epochs": [0]})
    workshop = Workshop(study=make_study(model=f"{HERE}:flattening", schedule=schedule), store=store)
    dense, _ = workshop.make_unpruned()
    assert len(workshop.prune(dense.checkpoint, {}).network.removed_blocks) == 1
    splits, module = images(), rebuild(get_object(store, dense.checkpoint)).module
    images_NCHW = splits.train.images_NHWC.permute(0, 3, 1, 2) / 127.5 - 1
    expected = measure_change_without(module, ("blocks.0", "blocks.1"), [images_NCHW.contiguous()])
    (key,) = store.list("cache/blocks/")
    assert get_json(store, key) == pytest.approx(expected, rel=1e-3)


class FlatteningNetwork(TinyNetwork):
    """One that keeps its features' places, by `view`."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes)
        self.fc = nn.Linear(8 * 8 * 8, num_classes)

    def forward(self, images_NCHW: Tensor) -> Tensor:
        features_NCHW = self.blocks(torch.relu(self.bn1(self.conv1(images_NCHW))))
        logits_NK: Tensor = self.fc(features_NCHW.view(features_NCHW.shape[0], -1))
        return logits_NK


def flattening(num_classes: int) -> nn.Module:
    return FlatteningNetwork(num_classes)


def test_a_block_that_the_unpruned_network_does_not_have_is_named(store: MemoryStore, weights: Path) -> None:
    workshop = Workshop(study=make_study(weights=weights), store=store)
    dense, _ = workshop.make_unpruned()
    importance = BlockImportance(unpruned_key=dense.checkpoint, splits=images(), store=store, device="cpu")
    assert importance("blocks.1") > 0
    with pytest.raises(ThinningError, match="How important 'blocks' is cannot be told"):
        importance("blocks")


def test_the_unpruned_network_is_trained_once(store: MemoryStore) -> None:
    workshop = Workshop(study=make_study(), store=store)
    compressed, is_reused = workshop.make_unpruned()
    assert not is_reused
    assert [epoch.epoch for epoch in compressed.epochs] == [0, 1]
    rates = [epoch.lr for epoch in compressed.epochs]
    assert rates == pytest.approx([0.1, 0.05])  # a half cosine over both epochs
    assert compressed.validation.num_images == 24
    assert all(layer.kept == tuple(range(layer.num_filters)) for layer in compressed.layers.values())
    assert compressed.seconds.keys() == {"train", "evaluate", "export", "store"}
    again, is_reused = Workshop(study=make_study(), store=store).make_unpruned()
    assert is_reused
    assert again == compressed


def test_the_unpruned_network_may_be_imported(store: MemoryStore, weights: Path) -> None:
    compressed, _ = Workshop(study=make_study(weights=weights), store=store).make_unpruned()
    assert compressed.epochs == ()
    state = rebuild(get_object(store, compressed.checkpoint)).module.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in torch.load(weights).items())


def test_a_candidate_is_pruned_exported_and_kept(store: MemoryStore, weights: Path) -> None:
    study = make_study(weights=weights)
    dense, _ = Workshop(study=study, store=store).make_unpruned()
    compressed, is_reused = make_pair(store, study, pruner_0=0.75, pruner_1=0.0)
    assert not is_reused
    sizes = {name: (layer.num_filters, len(layer.kept)) for name, layer in compressed.layers.items()}
    assert sizes["blocks.0.conv1"] == (8, 2)
    assert all(size == (8, 8) for name, size in sizes.items() if name != "blocks.0.conv1")
    assert compressed.num_params == dense.num_params - 6 * (27 - 3 + 9 * 8 - 24 + 2 + 72)
    assert compressed.macs == dense.macs - 6 * 2 * 9 * 8 * 64
    assert compressed.size_bytes == len(get_object(store, compressed.onnx))
    assert compressed.architecture != dense.architecture
    assert [epoch.epoch for epoch in compressed.epochs] == [-1]
    assert compressed.epochs[0].top1 == compressed.validation.top1
    network = rebuild(get_object(store, compressed.checkpoint))
    assert dict(network.kept) == {name: layer.kept for name, layer in compressed.layers.items()}


def test_off_the_shelf_is_the_schedule_as_it_stands(store: MemoryStore, weights: Path) -> None:
    compressed, _ = make_pair(store, make_study(weights=weights))
    assert [len(compressed.layers[f"blocks.{i}.conv1"].kept) for i in range(2)] == [4, 4]


def test_retraining_records_each_epoch_and_the_state_before(store: MemoryStore, weights: Path) -> None:
    study = make_study(weights=weights, training={"epochs": 3, "lr": 0.05, "batch_size": 16})
    compressed, _ = make_pair(store, study, pruner_0=0.5)
    assert [epoch.epoch for epoch in compressed.epochs] == [-1, 0, 1, 2]
    rates = [epoch.lr for epoch in compressed.epochs]
    assert (rates[0], compressed.epochs[0].training_loss) == (None, None)
    assert rates[1:] == pytest.approx([0.05, 0.025, 0.0125])
    assert compressed.validation.top1 == compressed.epochs[-1].top1  # the last epoch, never the best
    assert compressed.seconds.keys() == {"prune", "evaluate", "recalibrate", "train", "export", "store"}


def test_training_runs_in_bf16_or_f32_to_the_same_candidate_twice(weights: Path) -> None:
    study = make_study(weights=weights, training={"epochs": 1, "batch_size": 16})
    one, _ = make_pair(MemoryStore(), study, pruner_0=0.5)
    other, _ = make_pair(MemoryStore(), study, pruner_0=0.5)
    assert (one.onnx, one.checkpoint) == (other.onnx, other.checkpoint)


def test_batch_normalisation_is_recalibrated_where_something_was_pruned(store: MemoryStore, weights: Path) -> None:
    pruned, _ = make_pair(store, make_study(weights=weights), pruner_0=0.5)
    as_it_was, _ = make_pair(store, make_study(weights=weights, training={"recalibration_images": 0}), pruner_0=0.5)
    assert pruned.top1_before_recalibration == as_it_was.validation.top1
    assert pruned.epochs[0].top1 == pruned.validation.top1
    assert as_it_was.top1_before_recalibration is None
    one, other = (rebuild(get_object(store, network.checkpoint)).module for network in (pruned, as_it_was))
    assert not torch.equal(one.get_buffer("bn1.running_mean"), other.get_buffer("bn1.running_mean"))
    assert torch.equal(one.get_parameter("fc.weight"), other.get_parameter("fc.weight"))
    whole, _ = make_pair(store, make_study(weights=weights), pruner_0=0.0, pruner_1=0.0)
    assert whole.top1_before_recalibration is None


def test_the_unpruned_network_is_the_teacher_unless_forbidden(store: MemoryStore, weights: Path) -> None:
    plain, _ = make_pair(store, make_study(weights=weights, training={**TRAINED, "distillation": False}), pruner_0=0.5)
    taught, _ = make_pair(store, make_study(weights=weights, training=TRAINED), pruner_0=0.5)
    assert taught.checkpoint != plain.checkpoint
    assert taught.epochs[0].top1 == plain.epochs[0].top1


def test_a_training_goes_on_after_a_kill_and_leaves_no_checkpoint(
    store: MemoryStore, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path))
    study = make_study(weights=weights, training={**TRAINED, "epochs": 3})
    undisturbed, _ = make_pair(MemoryStore(), study, pruner_0=0.5)
    assert list((tmp_path / "training").iterdir()) == []
    Workshop(study=study, store=store).make_unpruned()
    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr("secateur.candidate.count_macs", interrupt)
        make_pair(store, study, pruner_0=0.5)
    assert len(list((tmp_path / "training").iterdir())) == 1
    resumed, _ = make_pair(store, study, pruner_0=0.5)
    assert resumed.checkpoint == undisturbed.checkpoint
    assert list((tmp_path / "training").iterdir()) == []


def test_old_checkpoints_are_removed_when_a_training_begins(
    store: MemoryStore, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECATEUR_CACHE", str(tmp_path))
    folder = tmp_path / "training"
    folder.mkdir()
    for name, days in (
        ("of_a_failed_trial.safetensors", 31),
        ("torn.safetensors.1234", 31),
        ("recent.safetensors", 29),
    ):
        (folder / name).touch()
        os.utime(folder / name, times=(time.time() - days * 24 * 3600,) * 2)
    make_pair(store, make_study(weights=weights, training=TRAINED), pruner_0=0.5)
    assert [path.name for path in folder.iterdir()] == ["recent.safetensors"]


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


# --- reuse


def test_equal_networks_are_made_once(store: MemoryStore, weights: Path) -> None:
    study = make_study(weights=weights)
    one, is_first_reused = make_pair(store, study, pruner_0=0.65)  # 5 of 8 go
    other, is_second_reused = make_pair(store, study, pruner_0=0.70)  # 5 of 8 go
    third, is_third_reused = make_pair(store, study, pruner_0=0.75)  # 6 of 8 go
    assert (is_first_reused, is_second_reused, is_third_reused) == (False, True, False)
    assert other == one
    assert third.layers["blocks.0.conv1"] != one.layers["blocks.0.conv1"]


def other_images() -> Splits:
    splits = images()
    pixels = splits.train.images_NHWC.clone()
    pixels[0, 0, 0, 0] ^= 1
    return replace(splits, train=ImageSet(images_NHWC=pixels, labels_N=splits.train.labels_N))


TRAINED = {"epochs": 1, "batch_size": 16}


@pytest.mark.parametrize(
    "changes",
    [
        {"search": {**STUDY["search"], "seed": 1}},
        {"training": {**TRAINED, "lr": 0.2}},
        {"training": {**TRAINED, "epochs": 2}},
        {"dataset": f"{HERE}:other_images"},
        {"evaluation": "python:tests.flows.tiny:red_recall"},
    ],
    ids=["seed", "lr", "epochs", "data", "evaluation"],
)
def test_what_matters_to_a_network_makes_another(store: MemoryStore, weights: Path, changes: dict[str, Any]) -> None:
    make_pair(store, make_study(weights=weights, training=TRAINED), pruner_0=0.5)
    assert make_pair(store, make_study(weights=weights, training=TRAINED), pruner_0=0.5)[1]
    assert not make_pair(store, make_study(**{"weights": weights, "training": TRAINED, **changes}), pruner_0=0.5)[1]


def test_what_does_not_matter_makes_no_other(store: MemoryStore, weights: Path) -> None:
    make_pair(store, make_study(weights=weights), pruner_0=0.5)
    others = {"name": "other", "training": {"epochs": 0, "lr": 0.3}, "budget": {"trials": 9}}
    assert make_pair(store, make_study(weights=weights, **others), pruner_0=0.5)[1]


def test_other_weights_make_another_network(store: MemoryStore, weights: Path) -> None:
    make_pair(store, make_study(weights=weights), pruner_0=0.5)
    torch.save(TinyNetwork(3).state_dict(), weights)
    assert not make_pair(store, make_study(weights=weights), pruner_0=0.5)[1]


def test_networks_that_are_masked_but_not_thinned_are_told_apart(store: MemoryStore, weights: Path) -> None:
    schedule = copy.deepcopy(SCHEDULE)
    schedule["extensions"]["thinner"]["thinning_func_str"] = "remove_channels"  # while filters are masked
    study = make_study(weights=weights, schedule=schedule)
    one, _ = make_pair(store, study, pruner_0=0.25)
    other, is_reused = make_pair(store, study, pruner_0=0.75)
    assert one.layers == other.layers
    assert not is_reused
    assert one.checkpoint != other.checkpoint


def test_what_a_schedule_does_later_makes_another_network(store: MemoryStore, weights: Path) -> None:
    schedule = copy.deepcopy(SCHEDULE)
    schedule["policies"][1]["epochs"] = [1]
    schedule["policies"].append({"extension": {"instance_name": "thinner"}, "epochs": [1]})
    study = make_study(weights=weights, schedule=schedule, training={"epochs": 2, "batch_size": 16})
    one, _ = make_pair(store, study, pruner_1=0.25)
    other, is_reused = make_pair(store, study, pruner_1=0.75)
    assert not is_reused
    assert [len(network.layers["blocks.1.conv1"].kept) for network in (one, other)] == [6, 2]


# --- the user's own evaluation


def not_numbers(model: nn.Module, images: ImageSet) -> dict[str, str]:
    return {"recall": "high"}


def a_number(model: nn.Module, images: ImageSet) -> float:
    return 3.0


def taken(model: nn.Module, images: ImageSet) -> dict[str, float]:
    return {"top1": 3.0, "mine": 1.0}


def test_an_evaluation_function_adds_metrics(store: MemoryStore, weights: Path) -> None:
    workshop = Workshop(study=make_study(weights=weights, evaluation="python:tests.flows.tiny:red_recall"), store=store)
    dense, _ = workshop.make_unpruned()
    compressed, _ = workshop.make_candidate(dense.checkpoint, {})
    for network in (dense, compressed):
        assert 0 <= network.validation.others["red_recall"] <= 1
    scores = workshop.test(compressed.checkpoint, "2026-11-22T12:00:00+00:00")
    assert scores.accessed_at == ("2026-11-22T12:00:00+00:00",)
    assert scores.others.keys() == {"red_recall"}


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("not_numbers", "expected a mapping of names to numbers, got {'recall': 'high'}"),
        ("a_number", "expected a mapping of names to numbers, got 3.0"),
        ("taken", r"\['top1'\] are metrics already; name yours otherwise"),
        ("nowhere", "module 'tests.test_candidate' has no 'nowhere'"),
    ],
)
def test_an_evaluation_that_gives_something_else_is_refused(
    store: MemoryStore, weights: Path, function: str, problem: str
) -> None:
    workshop = Workshop(study=make_study(weights=weights, evaluation=f"{HERE}:{function}"), store=store)
    with pytest.raises(StudyError, match=problem):
        workshop.make_unpruned()


# --- failures


def test_a_schedule_that_cannot_be_thinned_fails(store: MemoryStore, weights: Path) -> None:
    schedule = copy.deepcopy(SCHEDULE)
    schedule["pruners"]["pruner_0"]["weights"] = ["blocks.0.conv2.weight"]
    with pytest.raises(ThinningError, match="share their channels"):
        make_pair(store, make_study(weights=weights, schedule=schedule))


def test_a_training_that_diverges_fails(store: MemoryStore, weights: Path) -> None:
    study = make_study(weights=weights, training={"epochs": 3, "lr": 1e30, "batch_size": 16})
    with pytest.raises(TrainingError, match=r"Lower training.lr|diverged or are damaged"):
        make_pair(store, study)
    keys = store.list("cache/compressed/")
    assert len(keys) == 1  # the unpruned network's: a failure is not remembered


def test_weights_that_do_not_fit_are_refused(store: MemoryStore, tmp_path: Path) -> None:
    torch.save(TinyNetwork(4).state_dict(), tmp_path / "w.pt")
    with pytest.raises(
        ModelError, match=r"w.pt do not fit the model: 'fc.weight' has shape \(4, 8\), expected \(3, 8\)"
    ):
        Workshop(study=make_study(weights=tmp_path / "w.pt"), store=store).make_unpruned()


def test_a_parameter_out_of_range_is_refused(store: MemoryStore, weights: Path) -> None:
    with pytest.raises(ScheduleError, match=r"desired_sparsity must be in \[0, 1\), got 1.5"):
        make_pair(store, make_study(weights=weights), pruner_0=1.5)


# --- checks before any work


def with_parameters(**parameters: Any) -> dict[str, Any]:
    return {**STUDY["search"], "parameters": {name.replace("__", "."): p for name, p in parameters.items()}}


def test_a_checked_study_holds_its_schedule(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text("policies: []\n")
    study = make_study(schedule=str(tmp_path / "s.yaml"), search=STUDY["search"])
    assert schedule_of(study).source == str(tmp_path / "s.yaml")
    with pytest.raises(
        StudyError, match=r"search.parameters: .*s.yaml: the schedule has no parameter 'pruner_0.desired"
    ):
        check_study(study)
    assert check_study(make_study()).schedule == SCHEDULE


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"pruner_0__desired_sparsity": {"min": 0, "max": 1.0}}, r"desired_sparsity must be in \[0, 1\), got 1.0"),
        ({"pruner_0__desired_sparsity": {"min": -0.5, "max": 0.5}}, r"must be in \[0, 1\), got -0.5"),
        (
            {"pruner_0__group_type": {"values": ["Filters", "Blocks"]}},
            "kwargs: {block_shape: .* belongs to 'group_type: Blocks'",
        ),
        ({"pruner__desired_sparsity": {"min": 0, "max": 0.5}}, "no parameter 'pruner.desired_sparsity'. Did you mean"),
    ],
)
def test_a_search_space_that_leaves_the_schedules_is_refused(parameters: dict[str, Any], problem: str) -> None:
    with pytest.raises(StudyError, match=f"search.parameters: .*{problem}"):
        check_study(make_study(search=with_parameters(**parameters)))


@pytest.mark.parametrize(
    ("curve", "has_rates", "expected"),
    [
        (None, False, "one_cycle"),
        (None, True, "schedule"),
        ("schedule", False, "schedule"),
        ("cosine", False, "cosine"),
    ],
)
def test_learning_rates_follow_the_schedule_if_it_has_some(
    store: MemoryStore, curve: str | None, has_rates: bool, expected: str
) -> None:
    schedule = copy.deepcopy(SCHEDULE)
    if not has_rates:
        del schedule["lr_schedulers"]
        schedule["policies"] = [policy for policy in schedule["policies"] if "lr_scheduler" not in policy]
    study = make_study(schedule=schedule, training={"epochs": 1, "lr_curve": curve})
    assert Workshop(study=study, store=store).settings(study.training).lr_curve == expected


def test_only_one_may_set_learning_rates() -> None:
    with pytest.raises(StudyError, match=r"training.lr_curve: 'cosine' sets learning rates, and so does the schedule"):
        check_study(make_study(training={"epochs": 1, "lr_curve": "cosine"}))


def test_a_study_is_checked_against_its_model() -> None:
    check_against_model(make_study(), 3)
    with pytest.raises(ModelError, match="unknown model 'resnet19'"):
        check_against_model(make_study(model="resnet19"))
    with pytest.raises(ScheduleError, match=r"layer 'module.blocks.0.conv1.weight' is not in resnet20_cifar"):
        check_against_model(make_study(model="resnet20_cifar"))


def test_a_checkpoint_of_another_kind_is_refused(store: MemoryStore, weights: Path) -> None:
    workshop = Workshop(study=make_study(weights=weights), store=store)
    with pytest.raises(ModelError, match="This is not a network saved by secateur"):
        workshop.make_candidate(put_object(store, b"something else"), {})
    network = unpruned(TinyNetwork(3), "python:tests.flows.tiny:network", 3)
    assert workshop.make_candidate(put_object(store, save_network(network)), {})[1] is False
