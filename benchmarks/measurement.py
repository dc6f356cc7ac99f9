"""Whether the measurement can be believed: ResNet56 and model 182 of the dissertation, in f32 on one thread.

    python benchmarks/measurement.py [--short 200] [--only ratio claims growth coverage agreement] [--processes 5]

ratio      model 182 / unpruned, idle and while a busy loop occupies each core; the two differ by at most 1 %
claims     ResNet56 against a copy of itself, idle and loaded: short measurements that claim a difference (at most 8 %)
growth     ResNet56 with k more identical blocks in its first stage: the ratio grows by the same for each block
coverage   of the 95 % interval: the short measurements that hold the value of a long one, taken in turn (92 to 98 %)
agreement  p50 against OpenVINO's own benchmark_app, five runs each in turn (median difference at most 3 %), and the
           spread of the unpaired ratios that benchmark_app yields

`--short` is the number of short measurements, each in fresh processes: 200 of them take about a quarter of an hour;
with the long ones beside them (`coverage`), an hour and a half.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import nn

from secateur import resources
from secateur.benchmark import measure
from secateur.benchmark.runner.interval import half_width, hierarchical_interval
from secateur.config import DeviceProfile, load_device
from secateur.export import export_onnx
from secateur.models import create_model
from secateur.models.resnet_cifar import BasicBlock
from secateur.pruning import ScheduleEngine
from secateur.results import LatencyReport
from secateur.schedule import load_schedule

MODEL_182 = {
    "filter_pruner_20": 0.4657,
    "filter_pruner_40": 0.8789,
    "filter_pruner_60": 0.9352,
    "filter_pruner_70": 0.9519,
}
"""Its desired sparsities (appendix of the dissertation)."""
INPUT_SIZE = 32
LONG_S = 30.0
NUM_LONG_PROCESSES = 40
NUM_LONG_BESIDE = 5
"""Processes of a long measurement after each of a short one: with five, the long value has a fifth of its variance."""
SHORT_S = 0.5
NUM_AGREEMENT_RUNS = 5
NUM_ADDED_BLOCKS = (3, 6, 9)


class Networks:
    """The ONNX files, in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.unpruned = self._export("resnet56", resnet56())
        self.copy = self._export("copy", resnet56())
        self.model_182 = self._export("model182", model_182())

    def deeper(self, num_blocks: int) -> Path:
        """Return ResNet56 with that many more blocks in its first stage."""
        model = resnet56()
        stage = model.get_submodule("layer1")
        assert isinstance(stage, nn.Sequential)
        stage.extend(BasicBlock(16, 16, stride=1) for _ in range(num_blocks))
        return self._export(f"deeper{num_blocks}", model)

    def _export(self, name: str, model: nn.Module) -> Path:
        path = self._folder / f"{name}.onnx"
        path.write_bytes(export_onnx(model, INPUT_SIZE))
        return path


def resnet56() -> nn.Module:
    torch.manual_seed(0)
    return create_model("resnet56_cifar", 10).eval()


def model_182() -> nn.Module:
    schedule = load_schedule(resources.find("schedules/compression/resnet56-filters.yaml"))
    schedule = schedule.with_parameters({f"{name}.desired_sparsity": value for name, value in MODEL_182.items()})
    model = resnet56()
    example_NCHW = torch.zeros(1, 3, INPUT_SIZE, INPUT_SIZE)
    ScheduleEngine(model, schedule, example_NCHW, base_lr=0.1, num_epochs=0).prune_before_training()
    return model.eval()


@contextmanager
def loaded() -> Iterator[None]:
    """Occupy every core with a busy loop."""
    with ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            process = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(process.kill)
        yield


@contextmanager
def idle() -> Iterator[None]:
    """Leave the machine as it is."""
    yield


CONDITIONS = {"idle": idle, "loaded": loaded}


def measured(model: Path, reference: Path, profile: DeviceProfile, seed: int = 0) -> LatencyReport:
    """Return one model's report."""
    (report,) = measure([model], reference, profile, seed=seed)
    if not isinstance(report, LatencyReport):
        raise report
    return report


def compare_ratio(networks: Networks, profile: DeviceProfile, num_short: int) -> None:  # noqa: ARG001
    estimates = []
    for name, condition in CONDITIONS.items():
        with condition():
            ratio = measured(networks.model_182, networks.unpruned, long(profile)).latency_ratio
        estimates.append(ratio.estimate)
        print(f"ratio, {name:<8} {ratio.estimate:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]")
    print(f"ratio, difference {abs(estimates[1] / estimates[0] - 1):.2%} (at most 1 %)")


def count_claims(networks: Networks, profile: DeviceProfile, num_short: int) -> None:
    for name, condition in CONDITIONS.items():
        with condition():
            ratios = [
                measured(networks.copy, networks.unpruned, short(profile), seed).latency_ratio
                for seed in range(num_short)
            ]
        share = statistics.mean(not ratio.low <= 1 <= ratio.high for ratio in ratios)
        spread = statistics.stdev(ratio.estimate for ratio in ratios)
        print(f"claims, {name:<8} {share:.1%} of {num_short} (at most 8 %); standard deviation {spread:.2%}")


def show_growth(networks: Networks, profile: DeviceProfile, num_short: int) -> None:  # noqa: ARG001
    for num_blocks in NUM_ADDED_BLOCKS:
        ratio = measured(networks.deeper(num_blocks), networks.unpruned, long(profile)).latency_ratio
        added = (ratio.estimate - 1) / num_blocks
        print(
            f"growth, {num_blocks} blocks {ratio.estimate:.4f} [{ratio.low:.4f}, {ratio.high:.4f}]: {added:.4f} a block"
        )


def count_coverage(networks: Networks, profile: DeviceProfile, num_short: int) -> None:
    """Compare short measurements with long ones of the same time, whose processes take their turn with theirs.

    A shared host is not the same from one minute to the next, and with it the ratio; how many intervals hold the mean
    of all these minutes, the second line tells.
    """
    one, count = a_process(short(profile), profile.num_processes), profile.num_processes
    estimates, truths, intervals = [], [], []
    for number in track(range(num_short), "coverage", console=Console(stderr=True)):
        medians, long_medians = [], []
        for index in range(count):
            seed = (number * count + index) * (1 + NUM_LONG_BESIDE)
            medians.append(measured(networks.model_182, networks.unpruned, one, seed).process_ratios[0])
            long_medians += [
                measured(networks.model_182, networks.unpruned, one, seed + 1 + k).process_ratios[0]
                for k in range(NUM_LONG_BESIDE)
            ]
        interval = hierarchical_interval([np.array([median]) for median in medians], np.random.default_rng(number))
        estimates.append(interval["estimate"])
        intervals.append(interval)
        truths.append(statistics.mean(long_medians))
    whole = statistics.mean(truths)
    width = statistics.median(half_width(interval) for interval in intervals)
    share = statistics.mean(i["low"] <= truth <= i["high"] for i, truth in zip(intervals, truths, strict=True))
    print(
        f"coverage {share:.1%} of {num_short} hold the value of {count * NUM_LONG_BESIDE} processes of the same time"
        f" (92 to 98 %); median half-width {width:.2%}"
    )
    share = statistics.mean(i["low"] <= whole <= i["high"] for i in intervals)
    print(
        f"coverage {share:.1%} hold the mean of all, {whole:.4f}; standard deviation {spread_of(estimates)},"
        f" of the long values {spread_of(truths)}"
    )


def spread_of(values: list[float]) -> str:
    return f"{statistics.stdev(values) / statistics.mean(values):.2%}"


def check_agreement(networks: Networks, profile: DeviceProfile, num_short: int) -> None:  # noqa: ARG001
    differences, unpaired = [], []
    for run in range(NUM_AGREEMENT_RUNS):
        report = measured(networks.unpruned, networks.unpruned, profile, run)
        theirs_ms = benchmark_app(networks.unpruned, profile, report.conditions["core"])
        differences.append(report.total_latency_ms.p50 / theirs_ms - 1)
        unpaired.append(benchmark_app(networks.model_182, profile, report.conditions["core"]) / theirs_ms)
        print(f"agreement, run {run}: p50 {report.total_latency_ms.p50:.3f} ms, benchmark_app {theirs_ms:.3f} ms")
    print(f"agreement, median difference {statistics.median(differences):+.1%} (at most 3 %)")
    spread = max(unpaired) / min(unpaired) - 1
    print(f"unpaired ratios of benchmark_app: {min(unpaired):.4f} to {max(unpaired):.4f}, a spread of {spread:.1%}")


def benchmark_app(model: Path, profile: DeviceProfile, core: int) -> float:
    """Return the median latency in milliseconds that OpenVINO's own program tells, on the same core.

    Bound to one core, it has one thread; it lets none be named beside `-hint latency`.
    """
    program = Path(sys.executable).with_name("benchmark_app")
    options: dict[str, object] = {"-m": model, "-d": profile.device, "-hint": "latency", "-api": "sync", "-t": 3}
    options["-infer_precision"] = profile.precision
    command = [str(word) for word in (program, *(word for option in options.items() for word in option))]
    pinned = ["taskset", "--cpu-list", str(core), *command]
    said = subprocess.run(pinned, capture_output=True, text=True, check=True, timeout=120).stdout
    match = re.search(r"Median:\s*([\d.]+) (ms|us)", said)
    assert match, said
    return float(match[1]) / {"ms": 1, "us": 1000}[match[2]]


def long(profile: DeviceProfile) -> DeviceProfile:
    return profile.model_copy(
        update={"num_processes": NUM_LONG_PROCESSES, "max_duration_s": LONG_S, "target_half_width": 1e-4}
    )


def a_process(profile: DeviceProfile, count: int) -> DeviceProfile:
    """Return a profile for one of the `count` processes that a measurement under `profile` has."""
    return profile.model_copy(
        update={
            "num_processes": 1,
            "max_duration_s": profile.max_duration_s / count,
            "min_rounds": profile.min_rounds // count,
            "target_half_width": profile.target_half_width * math.sqrt(count / 2),
        }
    )


def short(profile: DeviceProfile) -> DeviceProfile:
    return profile.model_copy(update={"max_duration_s": SHORT_S})


EXPERIMENTS: dict[str, Callable[[Networks, DeviceProfile, int], None]] = {
    "ratio": compare_ratio,
    "claims": count_claims,
    "growth": show_growth,
    "coverage": count_coverage,
    "agreement": check_agreement,
}


def main() -> None:
    """Run the experiments, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", type=int, default=200, help="number of short measurements")
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS))
    parser.add_argument("--processes", type=int, default=5, help="fresh processes of a short measurement")
    options = parser.parse_args()
    profile = load_device("cpu-f32-1thread").model_copy(update={"num_processes": options.processes})
    with tempfile.TemporaryDirectory() as folder:
        networks = Networks(Path(folder))
        for name in options.only:
            EXPERIMENTS[name](networks, profile, options.short)


if __name__ == "__main__":
    main()
