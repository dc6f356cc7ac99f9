from __future__ import annotations

import pytest

from secateur.errors import ScheduleError
from secateur.methods import own_names
from secateur.schedule import check_fit
from tests.schedule.documents import TEXT, parse_text

SHAPES = {
    "conv1.weight": (16, 3, 3, 3),
    "conv2.weight": (32, 16, 3, 3),
    "bn1.weight": (16,),
    "fc.weight": (10, 32),
}


BLOCKS = """{class: L1RankedStructureParameterPruner, group_type: Blocks, desired_sparsity: 0.5, weights: conv1.weight,
    kwargs: {block_shape: [5, 1, 1, 1]}}"""


def problems_of(text: str, num_epochs: int = 9) -> list[str]:
    with pytest.raises(ScheduleError) as caught:
        check_fit(parse_text(text), SHAPES, "tiny", num_epochs)
    return list(caught.value.problems)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("own_prefix", ["", "module."])
def test_the_prefix_is_optional_on_both_sides(prefix: str, own_prefix: str) -> None:
    shapes = {own_prefix + name: shape for name, shape in SHAPES.items()}
    assert own_names([f"{prefix}conv1.weight"], shapes) == {f"{prefix}conv1.weight": f"{own_prefix}conv1.weight"}
    assert own_names([f"{prefix}conv9.weight"], shapes) == {f"{prefix}conv9.weight": None}
    text = TEXT.replace("[conv", f"[{prefix}conv")
    check_fit(parse_text(text), shapes, "tiny", 9)


@pytest.mark.parametrize(
    ("was", "becomes", "problem"),
    [
        (
            "[conv1.weight]",
            "[module.conv1.weigth]",
            "s.yaml:3: pruner 'one': layer 'module.conv1.weigth' is not in tiny. Did you mean 'conv1.weight'?",
        ),
        (
            "[conv1.weight]",
            "[x]",
            "s.yaml:3: pruner 'one': layer 'x' is not in tiny. Known: conv1.weight, conv2.weight.",
        ),
        (
            "[conv1.weight]",
            "[conv1.weight, module.conv1.weight]",
            "s.yaml:3: pruner 'one': 'conv1.weight' and 'module.conv1.weight' are the same parameter: name it once.",
        ),
        ("[conv1.weight]", "[bn1.weight]", "'bn1.weight' has shape (16,); Filters needs a convolution's weight."),
        ("[conv1.weight]", "[fc.weight]", "'fc.weight' has shape (10, 32); Filters needs a convolution's weight."),
        (
            "Filters, desired_sparsity: 0.5, weights: [conv1.weight]",
            "Rows, desired_sparsity: 0.5, weights: [bn1.weight]",
            "'bn1.weight' has shape (16,); Rows needs the weight of a convolution or a linear layer.",
        ),
        (
            "weights: [conv1.weight]",
            "weights: [conv1.weight, conv2.weight], group_dependency: Leader",
            "'group_dependency: Leader' needs the same number of filters in every layer, got {'conv1.weight': 16,",
        ),
        (
            "  epochs: [0]\n- ext",
            "  epochs: [9]\n- ext",
            "s.yaml:14: pruner 'one' never acts: its epochs begin at 9, and",
        ),
        (
            "  epochs: [0]\n- ext",
            "  epochs: [-1]\n- ext",
            "14: pruner 'one' never acts: its epochs begin at -1, and train",
        ),
        ("- pruner: {instance_name: one}\n  epochs: [0]\n", "", "s.yaml: no policy prunes anything."),
        (
            "- extension: {instance_name: thinner}\n  epochs: [0]\n",
            "",
            "s.yaml: nothing is thinned, and zeros alone make",
        ),
        (
            "ExponentialLR, gamma: 0.9",
            "StepLR, step_size: 5, gamma: x",
            "s.yaml:6: lr_scheduler 'falling': StepLR gives no learning rates: TypeError",
        ),
        (
            "ExponentialLR, gamma: 0.9",
            "OneCycleLR, max_lr: 0.1, total_steps: 5",
            "s.yaml:6: lr_scheduler 'falling': OneCycleLR gives no learning rates: ValueError: Tried to step 6 times.",
        ),
    ],
    ids=lambda value: value[:30],
)
def test_what_does_not_fit_is_named(was: str, becomes: str, problem: str) -> None:
    assert was in TEXT
    found = problems_of(TEXT.replace(was, becomes, 1))
    assert any(problem in one for one in found), found


def test_columns_of_a_linear_layer_are_channels() -> None:
    text = TEXT.replace(
        "Filters, desired_sparsity: 0.5, weights: [conv1", "Channels, desired_sparsity: 0.5, weights: [fc"
    )
    check_fit(parse_text(text), SHAPES, "tiny", 9)


def test_without_training_only_epoch_0_acts() -> None:
    check_fit(parse_text(TEXT), SHAPES, "tiny", 0)
    assert len(problems_of(TEXT.replace("epochs: [0]", "epochs: [1]"), num_epochs=0)) == 2


def test_a_cycle_may_be_as_long_as_the_training() -> None:
    text = TEXT.replace("ExponentialLR, gamma: 0.9", "OneCycleLR, max_lr: 0.1, total_steps: 9")
    check_fit(parse_text(text), SHAPES, "tiny", 9)


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (
            "{class: MagnitudeParameterPruner, thresholds: {'*': 0.1, conv9.weight: 1}}",
            "layer 'conv9.weight' is not in tiny",
        ),
        (
            BLOCKS,
            "'conv1.weight' has shape (16, 3, 3, 3); its 16 filters cannot be divided into blocks of 5.",
        ),
        (
            "{class: StructureParameterPruner, threshold_criteria: Max, reg_regims: {fc.weight: [0.1, Filters]}}",
            "'fc.weight' has shape (10, 32); Filters needs a convolution's weight.",
        ),
        (
            "{class: GradientRankedFilterPruner, group_type: 3D, desired_sparsity: 0.5, weights: [conv1.weight]}",
            "s.yaml:14: pruner 'one' ranks by gradients, which are not there in epoch 0: let it act from epoch 1 on.",
        ),
    ],
    ids=["magnitude", "blocks", "structures", "gradients"],
)
def test_other_pruners_must_fit_too(entry: str, problem: str) -> None:
    lines = TEXT.splitlines()
    lines[2] = f"  one: {entry}"
    assert any(problem in one for one in problems_of("\n".join(lines)))


def test_a_regularizer_must_fit_too() -> None:
    text = TEXT + (
        "- regularizer: {instance_name: r}\n  epochs: [0]\n"
        "regularizers: {r: {class: GroupLassoRegularizer, reg_regims: {fc.weight: [1, 3D], conv1.wieght: [1, 2D]}}}\n"
    )
    assert problems_of(text) == [
        "s.yaml:20: regularizer 'r': 'fc.weight' has shape (10, 32); 3D needs a convolution's weight.",
        "s.yaml:20: regularizer 'r': layer 'conv1.wieght' is not in tiny. Did you mean 'conv1.weight'?",
    ]


def test_single_weights_need_no_thinning() -> None:
    lines = [line for line in TEXT.splitlines() if "two" not in line]
    lines[2] = "  one: {class: SparsityLevelParameterPruner, levels: {'*': 0.5}}"
    text = "\n".join(lines).replace("- extension: {instance_name: thinner}\n  epochs: [0]", "")
    check_fit(parse_text(text), SHAPES, "tiny", 9)


def test_without_a_known_length_of_training_late_epochs_act() -> None:
    check_fit(parse_text(TEXT.replace("epochs: [0]", "epochs: [50]")), SHAPES, "tiny", None)


def test_every_other_parameter_is_for_pruners_of_single_weights() -> None:
    text = TEXT + "regularizers: {r: {class: L1Regularizer, reg_regims: {'*': 0.1}}}\n"
    assert problems_of(text) == [
        "s.yaml:18: regularizer 'r': layer '*' is not in tiny. Known: " + ", ".join(sorted(SHAPES)) + "."
    ]
