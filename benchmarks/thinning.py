"""What pruning and thinning cost: the first time, when the network is traced, and for every further candidate.

ResNet56 is pruned by the off-the-shelf schedule; the networks of torchvision lose half of the filters of every
convolution that shares them with no other. Each repetition starts from the unpruned network; the median counts.

    python benchmarks/thinning.py [--repetitions 10] [--threads 1]
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from secateur import resources
from secateur.config.located import Located
from secateur.models import create_model, default_input_size, default_num_classes
from secateur.pruning import ScheduleEngine
from secateur.schedule import Schedule, load_schedule, parse_schedule
from secateur.thinning import ChannelSpace, count_params, trace_channel_spaces

OFF_THE_SHELF = Path("schedules/compression/resnet56-filters.yaml")


def half_of_every_layer(model: nn.Module, spaces: Sequence[ChannelSpace]) -> Schedule:
    """Return a schedule for a network that has none."""
    alone = [space.producers[0].layer for space in spaces if space.obstacle is None and len(space.producers) == 1]
    weights = [f"{layer}.weight" for layer in alone if isinstance(model.get_submodule(layer), nn.Conv2d)]
    pruner = {
        "class": "L1RankedStructureParameterPruner",
        "group_type": "Filters",
        "desired_sparsity": 0.5,
        "weights": weights,
    }
    document = {
        "version": 1,
        "pruners": {"half": pruner},
        "extensions": {"thinner": {"class": "FilterRemover", "thinning_func_str": "remove_filters"}},
        "policies": [
            {"pruner": {"instance_name": "half"}, "epochs": [0]},
            {"extension": {"instance_name": "thinner"}, "epochs": [0]},
        ],
    }
    return parse_schedule(Located(value=document, source="benchmarks/thinning.py"))


def prune_s(
    model: nn.Module, schedule: Schedule, input_size: int, spaces: Sequence[ChannelSpace] | None
) -> tuple[float, int]:
    """Return the seconds that pruning, thinning and checking took, and how many parameters are left."""
    pruned = copy.deepcopy(model)
    started = time.perf_counter()
    example_NCHW = torch.zeros(1, 3, input_size, input_size)
    engine = ScheduleEngine(pruned, schedule, example_NCHW, base_lr=0.1, num_epochs=0, spaces=spaces)
    engine.prune_before_training()
    return time.perf_counter() - started, count_params(pruned)


def main() -> None:
    """Print a row for each network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"{'network':>26} {'first s':>8} {'cached s':>9} {'fastest s':>10} {'parameters':>24}")
    for name in ("resnet56_cifar", "torchvision:resnet50", "torchvision:mobilenet_v2"):
        torch.manual_seed(0)
        model, input_size = create_model(name, default_num_classes(name)).eval(), default_input_size(name)
        example_NCHW = torch.zeros(1, 3, input_size, input_size)
        if name == "resnet56_cifar":
            schedule = load_schedule(resources.find(str(OFF_THE_SHELF)))
            first_s, _ = prune_s(model, schedule, input_size, None)
            spaces = trace_channel_spaces(model, example_NCHW)
        else:  # the schedule is made from what is traced
            started = time.perf_counter()
            spaces = trace_channel_spaces(model, example_NCHW)
            traced_s = time.perf_counter() - started
            schedule = half_of_every_layer(model, spaces)
            first_s = traced_s + prune_s(model, schedule, input_size, spaces)[0]
        times = [prune_s(model, schedule, input_size, spaces) for _ in range(arguments.repetitions)]
        cached_s = statistics.median(seconds for seconds, _ in times)
        sizes = f"{count_params(model):,} -> {times[0][1]:,}"
        print(f"{name:>26} {first_s:>8.2f} {cached_s:>9.3f} {min(times)[0]:>10.3f} {sizes:>24}", flush=True)


if __name__ == "__main__":
    main()
