"""Wrong and odd schedules, one by one: done as the real Distiller does, or refused (docs/distiller.md)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from secateur.config.located import Located
from secateur.errors import SecateurError
from secateur.pruning import ScheduleEngine
from secateur.schedule import Schedule, check_fit, parse_schedule
from tests.golden.networks import IMAGES_NCHW, assert_logits, network
from tests.golden.regenerate import load_golden
from tests.golden.test_vectors import rows_with_any

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
