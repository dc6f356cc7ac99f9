"""Random schedules for the tiny network, right ones and broken ones."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

FREE = [f"blocks.{i}.conv1.weight" for i in (0, 1)]
"""Whose filters nothing else shares."""
COUPLED = ["conv1.weight", "blocks.0.conv2.weight", "blocks.1.conv2.weight"]
CONVOLUTIONS = FREE + COUPLED
NUM_EPOCHS = 3

FRACTIONS = st.floats(0, 0.99)
AMOUNTS = st.floats(0, 0.5)
FORM_B = st.sampled_from([(0, 3, 1), (1, 3, 1), (0, 3, 2), (0, 2, 1)]).map(
    lambda form: dict(zip(("starting_epoch", "ending_epoch", "frequency"), form, strict=True))
)
EPOCHS = st.one_of(FORM_B, st.lists(st.integers(0, 2), min_size=1, max_size=3).map(lambda epochs: {"epochs": epochs}))
LATE_EPOCHS = st.sampled_from([{"epochs": [1]}, {"epochs": [1, 2]}, {"epochs": [2]}])


def _names(of: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(of), min_size=1, max_size=2, unique=True).flatmap(
        lambda names: st.sampled_from([names, [f"module.{name}" for name in names]])
    )


def _amounts(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from([*CONVOLUTIONS, "fc.weight", "*"]), values, min_size=1, max_size=3)


def _grown(fields: dict[str, Any]) -> dict[str, Any]:
    """Let a sparsity grow instead."""
    final = 0.01 + 0.98 * fields.pop("desired_sparsity")
    return {**fields, "class": f"{fields['class']}_AGP", "initial_sparsity": final / 2, "final_sparsity": final}


def _entry(class_name: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"class": st.just(class_name), **fields})


_RANKED = st.sampled_from(["L1RankedStructureParameterPruner", "L2RankedStructureParameterPruner"])
_FILTERS = st.sampled_from(["Filters", "3D"])
_ONE_SHOT = st.one_of(
    st.fixed_dictionaries(
        {"class": _RANKED, "group_type": _FILTERS, "desired_sparsity": FRACTIONS, "weights": _names(FREE)}
    ),
    st.fixed_dictionaries(
        {
            "class": _RANKED,
            "group_type": _FILTERS,
            "desired_sparsity": FRACTIONS,
            "weights": st.permutations(COUPLED),
            "group_dependency": st.just("Leader"),
        }
    ),
    st.fixed_dictionaries(
        {
            "class": _RANKED,
            "group_type": st.just("Blocks"),
            "desired_sparsity": FRACTIONS,
            "weights": _names(CONVOLUTIONS[:2]),
            "kwargs": st.sampled_from([(1, 8), (2, 4), (4, 1)]).map(lambda form: {"block_shape": [*form, 1, 1]}),
        }
    ),
    st.fixed_dictionaries(
        {
            "class": _RANKED,
            "group_type": st.sampled_from(["Channels", "Rows"]),
            "desired_sparsity": FRACTIONS,
            "weights": _names(["blocks.0.conv2.weight", "blocks.1.conv2.weight", "fc.weight"]),
        }
    ),
    _entry("RandomRankedFilterPruner", group_type=_FILTERS, desired_sparsity=FRACTIONS, weights=_names(FREE)),
)
_LATE = st.one_of(
    *(
        _entry(name, group_type=_FILTERS, desired_sparsity=FRACTIONS, weights=_names(FREE))
        for name in (
            "GradientRankedFilterPruner",
            "ActivationMeanRankedFilterPruner",
            "ActivationAPoZRankedFilterPruner",
        )
    )
)
_ELEMENTWISE = st.one_of(
    _entry("MagnitudeParameterPruner", thresholds=_amounts(AMOUNTS).map(lambda amounts: {"*": 0.01, **amounts})),
    _entry("SparsityLevelParameterPruner", levels=_amounts(FRACTIONS)),
    _entry("SensitivityPruner", sensitivities=_amounts(AMOUNTS)),
    _entry(
        "SplicingPruner",
        sensitivities=_amounts(AMOUNTS),
        low_thresh_mult=st.floats(0.5, 1),
        hi_thresh_mult=st.floats(1, 1.5),
    ),
    _entry(
        "RandomLevelStructureParameterPruner",
        group_type=_FILTERS,
        sparsity_range=st.tuples(FRACTIONS, FRACTIONS).map(sorted),
        weights=_names(FREE),
    ),
    _entry(
        "StructureParameterPruner",
        reg_regims=st.dictionaries(
            st.sampled_from(FREE),
            st.tuples(st.floats(0, 0.05), st.sampled_from(["2D", "Channels", "Filters"])).map(list),
            min_size=1,
        ),
        threshold_criteria=st.sampled_from(["Max", "Mean_Abs"]),
    ),
)
_GROWING = st.one_of(
    _ONE_SHOT.filter(lambda entry: "Ranked" in entry["class"]).map(_grown),
    _entry(
        "AutomatedGradualPruner",
        initial_sparsity=st.floats(0, 0.4),
        final_sparsity=st.floats(0.5, 0.99),
        weights=_names([*CONVOLUTIONS, "fc.weight"]),
    ),
    _entry(
        "BaiduRNNPruner",
        q=AMOUNTS,
        ramp_epoch_offset=st.integers(0, 2),
        ramp_slope_mult=st.floats(0, 3),
        weights=_names(CONVOLUTIONS),
    ),
)
REGULARIZERS = st.one_of(
    _entry("L1Regularizer", reg_regims=st.dictionaries(st.sampled_from(CONVOLUTIONS), st.floats(0, 0.01), min_size=1)),
    st.fixed_dictionaries(
        {
            "class": st.just("GroupLassoRegularizer"),
            "reg_regims": st.dictionaries(
                st.sampled_from(CONVOLUTIONS),
                st.tuples(st.floats(0, 0.01), st.sampled_from(["2D", "3D", "Filters", "Channels"])).map(list),
                min_size=1,
            ),
        },
        optional={"threshold_criteria": st.sampled_from(["Max", "Mean_Abs"])},
    ),
)
LR_SCHEDULERS = st.sampled_from(
    [
        {"class": "ExponentialLR", "gamma": 0.9},
        {"class": "PolynomialLR", "T_max": 9, "power": 2},
        {"class": "MultiStepMultiGammaLR", "milestones": [1, 2], "gammas": [0.5, 0.1]},
        {"class": "ReduceLROnPlateau", "mode": "min", "patience": 0},
        {"class": "LinearLR", "start_factor": 0.5, "total_iters": 2},
    ]
)
OPTIONS = st.one_of(
    st.none(),
    st.fixed_dictionaries(
        {},
        optional={
            "keep_mask": st.booleans(),
            "use_double_copies": st.booleans(),
            "mini_batch_pruning_frequency": st.integers(0, 3),
            "discard_masks_at_minibatch_end": st.booleans(),
            "skip_first_minibatch": st.booleans(),
            "fold_batchnorm": st.booleans(),
            "mask_on_forward_only": st.booleans(),
        },
    ),
    st.just({"mask_on_forward_only": True, "mask_gradients": True}),
)
PRUNERS = st.one_of(
    st.tuples(_ONE_SHOT, EPOCHS),
    st.tuples(_LATE, LATE_EPOCHS),
    st.tuples(_ELEMENTWISE, EPOCHS),
    st.tuples(_GROWING, FORM_B),
)


@st.composite
def right_schedules(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a schedule that is right: pruners, then a thinner, and around them what else there is."""
    pruners = draw(st.lists(PRUNERS, min_size=1, max_size=3))
    policies: list[dict[str, Any]] = []
    for index, (_, epochs) in enumerate(pruners):
        options = draw(OPTIONS)
        reference = {"instance_name": f"p{index}"} | ({} if options is None else {"args": options})
        policies.append({"pruner": reference, **epochs})
    document: dict[str, Any] = {
        "version": 1,
        "pruners": {f"p{index}": entry for index, (entry, _) in enumerate(pruners)},
        "extensions": {
            "t": {
                "class": "FilterRemover",
                "thinning_func_str": draw(st.sampled_from(["remove_filters", "remove_channels", "contract_model"])),
            }
        },
    }
    policies.insert(draw(st.integers(0, len(policies))), {"extension": {"instance_name": "t"}, **draw(EPOCHS)})
    if draw(st.booleans()):
        document["regularizers"] = {"r": draw(REGULARIZERS)}
        policies.append({"regularizer": {"instance_name": "r"}, **draw(EPOCHS)})
    if draw(st.booleans()):
        document["lr_schedulers"] = {"l": draw(LR_SCHEDULERS)}
        policies.insert(0, {"lr_scheduler": {"instance_name": "l"}, **draw(EPOCHS)})
    return {**document, "policies": policies}


JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 99), st.floats(), st.text(max_size=5), st.just([]), st.just({})
)


@st.composite
def mutated_schedules(draw: st.DrawFn) -> Any:
    """Draw a right schedule in which something, anywhere, was replaced, removed or added."""
    document = copy.deepcopy(draw(right_schedules()))  # what is drawn may be shared
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(document))
        if not places:
            break
        holder, key = draw(st.sampled_from(places))
        match draw(st.sampled_from(["replace", "remove", "rename", "repeat"])):
            case "replace":
                holder[key] = draw(JUNK)
            case "remove":
                del holder[key]
            case "rename" if isinstance(holder, dict):
                holder[draw(st.text(min_size=1, max_size=5))] = holder.pop(key)
            case _ if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
    return document


def _places(node: Any) -> Any:
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        yield node, key
        yield from _places(node[key])


@st.composite
def broken_schedules(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a right schedule that was broken in one place, for sure."""
    document = copy.deepcopy(draw(right_schedules()))  # what is drawn may be shared
    section = draw(
        st.sampled_from([s for s in ("pruners", "regularizers", "lr_schedulers", "extensions") if s in document])
    )
    entry = document[section][draw(st.sampled_from(sorted(document[section])))]
    policy = draw(st.sampled_from(document["policies"]))
    reference = next(value for value in policy.values() if isinstance(value, dict))
    field = draw(st.sampled_from(sorted(entry)))
    junk = draw(st.sampled_from(["x", [[1]], {"y": {}}, -5, float("nan")]))
    match draw(
        st.sampled_from(["class", "no class", "argument", "name", "epochs", "range", "args", "section", "value"])
    ):
        case "class":
            entry["class"] = draw(st.sampled_from(["L3Pruner", "", 7, None, "WRPNQuantizer", "LambdaLR", "Pruner"]))
        case "no class":
            del entry["class"]
        case "argument":
            entry[f"{field}_"] = 1
        case "name":
            reference["instance_name"] = draw(st.sampled_from(["p9", "", None, ["p0"], {"p0": 1}]))
        case "epochs":
            policy["epochs"] = draw(st.sampled_from([[], 0, "all", [0.5], [None], [[0]], None, [True]]))
        case "range":
            policy.pop("epochs", None)
            policy.update(
                {"starting_epoch": 0, "ending_epoch": 3, "frequency": draw(st.sampled_from([0, 4, -1, None]))}
            )
        case "args":
            reference["args"] = draw(st.sampled_from([7, ["keep_mask"], {"keep_masks": True}, {"levels": {"*": 2}}]))
        case "section":
            document[f"{section}s"] = document.pop(section)
        case _:
            if section == "pruners" and field in {"weights", "levels", "thresholds", "sensitivities"}:
                junk = {"nobody.weight": 0.1} if isinstance(entry[field], dict) else ["nobody.weight"]
            entry[field] = {} if field in {"arch", "dataset"} else junk
    return document
