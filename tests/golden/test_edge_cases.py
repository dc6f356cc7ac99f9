"""Wrong and odd schedules, one by one: done as the real Distiller does, or refused (docs/distiller.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from secateur.config.located import Located
from secateur.errors import SecateurError, ThinningError
from secateur.pruning import ScheduleEngine
from secateur.schedule import Schedule, check_fit, parse_schedule
from tests.golden.networks import IMAGES_NCHW, assert_logits, network
from tests.golden.regenerate import load_golden
from tests.golden.test_vectors import rows_with_any
from tests.schedule.documents import pruner

CASES = {case["case"]: case for case in load_golden("distiller_edge_cases")}


def weight(module: nn.Module, layer: str) -> Tensor:
    return module.get_parameter(f"{layer}.weight").data


def _backward(module: nn.Module) -> None:
    module(IMAGES_NCHW).sum().backward()


PREPARED: dict[str, Callable[[nn.Module], Any]] = {
    "zero_filter_elsewhere_in_model": lambda module: weight(module, "layer2.1.conv1")[5].zero_(),
    "all_zero_conv_elsewhere": lambda module: weight(module, "layer2.1.conv1").zero_(),
    "ties_all_equal": lambda module: weight(module, "layer1.0.conv1").fill_(0.1),
    "nan_filter": lambda module: weight(module, "layer1.0.conv1")[3].fill_(torch.nan),
    "thin_with_grads_sgd_no_momentum": _backward,
}
"""What was done to the network first."""

REFUSED_HERE = {
    "weights_unknown_name": "layer 'module.nope.weight' is not in resnet20_cifar.",
    "agp_sparsity_name_typo": "layer 'module.nope' is not in resnet20_cifar.",
    "rounding_fn_ceil_string": "rounding_fn input should be 'floor', got 'ceil'.",
    "leader_lowercase": "group_dependency input should be 'Leader', got 'leader'.",
    "pruner_args_unknown_key_ignored": "policy of 'p': unknown argument 'zzz'.",
    "policies_empty": "no policy prunes anything.",
    "pruner_defined_but_not_in_policy": "no policy prunes anything.",
    "policy_negative_epoch_in_list": "pruner 'p' never acts: its epochs begin at -1,",
    "cpu_GradientRankedFilterPruner": "ranks by gradients, which are not there in epoch 0: let it act from epoch 1 on.",
    "nan_filter": "'layer1.0.conv1.weight' cannot be pruned: 1 of 16 magnitudes are NaN or infinite.",
}
"""Distiller goes on, in silence; here they are errors."""

ACCEPTED_HERE = {
    "ties_all_equal": 8,
    "leader_too_few": 16,
    "ext_missing_arch": 8,
    "ext_dataset_bogus": 8,
    "agp_initial_0": 16,
}
"""Distiller stops; here they make sense: how many filters of `layer1.0.conv1` are left after epoch 0."""

UNKNOWN_STEP = {"thin_with_grads_sgd_no_momentum"}
"""An optimizer step was taken, nobody knows with which loss: only shapes can be compared."""


REFUSALS = {
    "group_type_Channels_fc_thin": "Layers 'layer3.1.conv1' and 'fc' share their channels",
    "conv1_stem_filters": "Layers 'conv1' and 'layer1.2.conv2' share their channels",
    "all_zero_conv_elsewhere": "All filters of layer 'layer2.1.conv1' are silent: nothing would be left of it.",
}
"""Refused in thinning, before any training; all others before anything runs."""


def parse(case: dict[str, Any]) -> Schedule:
    return parse_schedule(Located(value=case["schedule"], source="s"))


def run(case: dict[str, Any]) -> tuple[nn.Module, ScheduleEngine]:
    """Prune and thin through the epochs of a case, and compare the masks of each."""
    module = network(case["model"])
    if case["case"] in PREPARED:
        PREPARED[case["case"]](module)
    expected = case.get("masks_after_on_epoch_begin", {"0": None})
    engine = ScheduleEngine(module, parse(case), IMAGES_NCHW[:1], base_lr=0.1, num_epochs=len(expected))
    for epoch in sorted(map(int, expected)):
        engine.on_epoch_begin(epoch)
        if "error" not in case and (masks := expected[str(epoch)]) is not None:
            assert {f"module.{name}": summary(mask) for name, mask in engine.masks.items()} == masks
        engine.on_minibatch_begin(epoch, 0, 1)
        engine.on_minibatch_end(epoch, 0, 1)
    return module, engine


def summary(mask: Tensor) -> dict[str, Any]:
    found = {"shape": list(mask.shape), "zeros": int((~mask).sum())}
    return found | ({"kept_filters": rows_with_any(mask)} if mask.dim() == 4 else {})


@pytest.mark.parametrize("name", [name for name in CASES if "error" not in CASES[name] and name not in REFUSED_HERE])
def test_what_distiller_does_is_done(name: str) -> None:
    case = CASES[name]
    dense = {n: list(t.shape) for n, t in network(case["model"]).state_dict().items()}
    module, _ = run(case)
    changed = {n: list(t.shape) for n, t in module.state_dict().items() if list(t.shape) != dense[n]}
    assert changed == {n.removeprefix("module."): shape for n, shape in case["changed_shapes"].items()}
    assert all(p.grad is None or p.grad.shape == p.shape for p in module.parameters())
    if name not in UNKNOWN_STEP:
        assert_logits(module(IMAGES_NCHW), case["logits"])


def first_problem(case: dict[str, Any]) -> str:
    """Return what is said about a schedule before, or while, it runs."""
    with pytest.raises(SecateurError) as caught:
        shapes = {name: tuple(p.shape) for name, p in network(case["model"]).named_parameters()}
        check_fit(parse(case), shapes, "resnet20_cifar", 1)
        run(case)
    return str(caught.value)


@pytest.mark.parametrize("name", [name for name in CASES if "error" in CASES[name] and name not in ACCEPTED_HERE])
def test_what_distiller_cannot_do_is_refused(name: str) -> None:
    assert re.search(REFUSALS.get(name, r"^s: "), first_problem(CASES[name]))


@pytest.mark.parametrize("name", REFUSED_HERE)
def test_what_distiller_ignores_is_refused(name: str) -> None:
    assert re.search(REFUSED_HERE[name], first_problem(CASES[name]))


@pytest.mark.parametrize("name", ACCEPTED_HERE)
def test_what_makes_sense_is_done(name: str) -> None:
    case = {key: value for key, value in CASES[name].items() if key != "masks_after_on_epoch_begin"}
    module, engine = run(case)
    assert len(weight(module, "layer1.0.conv1")) == len(engine.kept["layer1.0.conv1"]) == ACCEPTED_HERE[name]
    assert module(IMAGES_NCHW).isfinite().all()


# --- what the golden specification tells of, without a visible case


def prune(module: nn.Module, document: dict[str, Any], optimizer: SGD | None = None) -> ScheduleEngine:
    schedule = parse_schedule(Located(value={**document, "policies": POLICIES}, source="s"))
    engine = ScheduleEngine(module, schedule, IMAGES_NCHW[:1], base_lr=0.1, num_epochs=1)
    if optimizer is not None:
        engine.on_training_begin(optimizer)
    engine.on_epoch_begin(0)
    engine.on_minibatch_begin(0, 0, 1)
    return engine


POLICIES = [{"pruner": {"instance_name": "p"}, "epochs": [0]}, {"extension": {"instance_name": "e"}, "epochs": [0]}]


def thinning_by(entry: dict[str, Any], function: str = "remove_filters") -> dict[str, Any]:
    return {"pruners": {"p": entry}, "extensions": {"e": {"class": "FilterRemover", "thinning_func_str": function}}}


def test_of_a_pair_at_the_threshold_one_goes() -> None:
    """`ties_pair_at_threshold`."""
    module = network("resnet20_cifar@npinit")
    filters = weight(module, "layer1.0.conv1")
    order = filters.abs().sum((1, 2, 3)).argsort()
    filters[order[8]] = filters[order[7]]
    engine = prune(module, thinning_by(pruner(["layer1.0.conv1.weight"])))
    assert len(engine.kept["layer1.0.conv1"]) == 8


@pytest.mark.parametrize(
    ("entry", "function", "layer"),
    [
        (pruner(["layer1.0.conv2.weight"]), "remove_filters", "layer1.0.conv2"),
        (pruner(["layer1.1.conv1.weight"], group_type="Channels"), "remove_channels", "layer1.1.conv1"),
    ],
    ids=["conv2_filters_residual", "channels_conv1_residual"],
)
def test_half_of_a_residual_sum_is_refused(entry: dict[str, Any], function: str, layer: str) -> None:
    module = network("resnet20_cifar@npinit")
    with pytest.raises(ThinningError, match=f"'{layer}' share their channels|'{layer}' and .* share their channels"):
        prune(module, thinning_by(entry, function))
    assert weight(module, layer).shape == (16, 16, 3, 3)


def test_momentum_is_trimmed_without_a_gradient() -> None:
    """`thin_momentum_present_but_grad_none`."""
    module = network("resnet20_cifar@npinit").train()
    optimizer = SGD(module.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(2):
        module(IMAGES_NCHW).logsumexp(1).sum().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if len(weight(module, "layer1.0.conv1")) == 16:
            prune(module, thinning_by(pruner(["layer1.0.conv1.weight"])), optimizer)
    assert len(optimizer.state[module.get_parameter("layer1.0.conv1.weight")]["momentum_buffer"]) == 8


def test_a_later_layers_normalisation_stays() -> None:
    """`latebn`: a convolution without a normalisation of its own, and one with it behind."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), nn.ReLU())
    engine = prune(module, thinning_by(pruner(["0.weight"])))
    assert (len(engine.kept["0"]), len(engine.kept["2"])) == (4, 6)
    assert module(IMAGES_NCHW).shape[1] == module.get_parameter("3.weight").numel() == 6


def test_a_schedule_may_be_parsed_twice() -> None:
    """`dict_parsed_twice`."""
    assert parse(CASES["ok_baseline"]) == parse(CASES["ok_baseline"])
