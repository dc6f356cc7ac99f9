"""What the dissertation found that this project grows from, for the studies that repeat its experiments.

"Inference at the edge: Tuning Compression Parameters for Performance" (2021), Tables 4.1 to 4.3: ResNet56 on CIFAR-10,
an Intel Neural Compute Stick 2, Pearson's correlation of each group's desired sparsity over all runs of an experiment.
"""

from __future__ import annotations

from collections.abc import Mapping

_PARAMETERS = (
    "filter_pruner_70.desired_sparsity",  # its layer_1
    "filter_pruner_60.desired_sparsity",  # layer_2
    "filter_pruner_20.desired_sparsity",  # layer_3.1
    "filter_pruner_40.desired_sparsity",  # layer_3.2
)

_CORRELATIONS: Mapping[str, Mapping[str, tuple[float, float, float, float]]] = {
    "dissertation-1": {
        "latency_ratio": (-0.807, -0.408, -0.113, -0.553),
        "top1": (-0.153, -0.105, 0.004, -0.072),
    },
    "dissertation-2": {
        "latency_ratio": (-0.827, -0.501, -0.139, -0.504),
        "top1": (-0.805, -0.452, -0.086, -0.441),
    },
    "dissertation-3": {
        "latency_ratio": (-0.764, -0.187, -0.143, -0.379),
        "top1": (-0.661, -0.214, -0.066, -0.284),
    },
}
"""Study -> metric -> correlation with each of `_PARAMETERS`; its latency is inside the device."""


def published_correlations(study: str) -> dict[str, dict[str, float]]:
    """Return metric -> parameter -> correlation, for the experiment that a study repeats; empty of any other study."""
    tables = _CORRELATIONS.get(study, {})
    return {metric: dict(zip(_PARAMETERS, values, strict=True)) for metric, values in tables.items()}
