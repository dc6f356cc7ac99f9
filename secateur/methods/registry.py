"""Every class a compression schedule may name: one flat list, as Distiller has it (SPEC 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from secateur.methods import elementwise, filters, ranked, regularizers
from secateur.methods.blocks import ResidualBlockRemover
from secateur.methods.learning_rates import LR_SCHEDULERS
from secateur.methods.method import Method
from secateur.methods.removers import Remover

Kind = Literal["pruner", "regularizer", "quantizer", "lr_scheduler", "extension"]

PRUNERS: Mapping[str, type[Method]] = {
    "L1RankedStructureParameterPruner": ranked.L1RankedStructures,
    "L1RankedStructureParameterPruner_AGP": ranked.GradualL1RankedStructures,
    "L2RankedStructureParameterPruner": ranked.L2RankedStructures,
    "L2RankedStructureParameterPruner_AGP": ranked.GradualL2RankedStructures,
    "RandomLevelStructureParameterPruner": ranked.RandomLevelStructures,
    "RandomRankedFilterPruner": filters.RandomFilters,
    "RandomRankedFilterPruner_AGP": filters.GradualRandomFilters,
    "GradientRankedFilterPruner": filters.GradientFilters,
    "GradientRankedFilterPruner_AGP": filters.GradualGradientFilters,
    "ActivationMeanRankedFilterPruner": filters.MeanActivationFilters,
    "ActivationMeanRankedFilterPruner_AGP": filters.GradualMeanActivationFilters,
    "ActivationAPoZRankedFilterPruner": filters.ApozFilters,
    "ActivationAPoZRankedFilterPruner_AGP": filters.GradualApozFilters,
    "MagnitudeParameterPruner": elementwise.MagnitudePruner,
    "SparsityLevelParameterPruner": elementwise.LevelPruner,
    "AutomatedGradualPruner": elementwise.GradualPruner,
    "SensitivityPruner": elementwise.SensitivityPruner,
    "SplicingPruner": elementwise.SplicingPruner,
    "BaiduRNNPruner": elementwise.BaiduRnnPruner,
    "StructureParameterPruner": elementwise.StructureThresholdPruner,
    "ResidualBlockRemover": ResidualBlockRemover,
}
REGULARIZERS: Mapping[str, type[Method]] = {
    "L1Regularizer": regularizers.L1Regularizer,
    "GroupLassoRegularizer": regularizers.GroupLassoRegularizer,
    "GroupVarianceRegularizer": regularizers.GroupVarianceRegularizer,
}
EXTENSIONS: Mapping[str, type[Method]] = dict.fromkeys(("FilterRemover", "ChannelRemover", "StructureRemover"), Remover)

METHODS: Mapping[str, type[Method]] = {**PRUNERS, **REGULARIZERS, **EXTENSIONS}
"""All classes but the LR schedulers, which are torch's."""

KINDS: Mapping[str, Kind] = {
    **dict.fromkeys(PRUNERS, "pruner"),
    **dict.fromkeys(REGULARIZERS, "regularizer"),
    **dict.fromkeys(EXTENSIONS, "extension"),
    **dict.fromkeys(LR_SCHEDULERS, "lr_scheduler"),
}

_QUANTIZE = (
    "secateur does not quantize: take the entry and its policy out, prune and train, and quantize the exported "
    "model.onnx, for example with OpenVINO's NNCF (nncf.quantize)"
)
_NOT_IN_YAML = "takes a function or other schedulers, which cannot stand in YAML: use a class that takes numbers"

REFUSED: Mapping[str, str] = {
    **dict.fromkeys(
        (
            "DorefaQuantizer",
            "WRPNQuantizer",
            "PACTQuantizer",
            "QuantAwareTrainRangeLinearQuantizer",
            "NCFQuantAwareTrainQuantizer",
            "PostTrainLinearQuantizer",
        ),
        _QUANTIZE,
    ),
    **dict.fromkeys(
        ("BernoulliFilterPruner", "BernoulliFilterPruner_AGP"),
        "it scales what it keeps, and removes a number that nobody asked for: use RandomRankedFilterPruner",
    ),
    "FMReconstructionChannelPruner": (
        "it needs feature maps that only code can collect: use L1RankedStructureParameterPruner with 'group_type: "
        "Channels'"
    ),
    **dict.fromkeys(("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler"), _NOT_IN_YAML),
}
"""Classes of Distiller and torch that are known and not supported -> why, and what to use instead."""
