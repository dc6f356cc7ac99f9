"""What the runner is asked to do: measure, evaluate, query, describe, list devices."""

from __future__ import annotations

import gc
import math
import random
import time
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from secateur.benchmark.runner import device, host
from secateur.benchmark.runner.beside import Bystanders
from secateur.benchmark.runner.device import Device, Operation, open_device
from secateur.benchmark.runner.energy import find_meter, measure_energy, measure_idle_w
from secateur.benchmark.runner.interval import half_width, hierarchical_interval
from secateur.benchmark.runner.network import CountedNetwork, Network
from secateur.benchmark.runner.problem import RunnerError
from secateur.benchmark.runner.stream import run_stream

PROGRESS_INTERVAL_S = 0.25
BLOCK_S = 5e-3
"""Of the slowest network; shorter inferences are timed several at a time, so that most blocks have a quiet one."""
NUM_COUNTED_ROUNDS = 20
MIN_QUIET_INFERENCES = 5
ENERGY_S = 1.0
"""Idle, and of each network: RAPL counts every millisecond, hwmon's chips several times a second."""
STEADY_SHARE = DETAILS_SHARE = 0.1
"""Of the time budget of a model, on top of it."""


class Output(Protocol):
    """The way back to the one who asked."""

    def emit(self, event: str, **fields: Any) -> None:
        """Say something; also a sign of life."""


def measure(request: dict[str, Any], output: Output) -> dict[str, Any]:
    """Time the request's models against its reference.

    Returns:
        `networks`, the reference first: of each the raw timings and all that was found out, or `error` and its `kind`.
        What is wrong with the reference, or the device, is raised.
    """
    profile, seed, begun = request["profile"], request["seed"], time.monotonic()
    lasting = host.lasting_conditions()
    core = host.pin_to_core(profile)
    opened = open_device(profile)
    paths = [request["reference"], *request["models"]]
    order = list(range(len(paths)))
    random.Random(seed).shuffle(order)  # what is compiled first lies better in memory and can be 1 % faster
    compiled = {index: _compiled(opened, paths[index], index, request, output) for index in order}
    found = [compiled[index] for index in range(len(paths))]
    if isinstance(found[0], RunnerError):
        raise found[0]
    networks = [network for network in found if isinstance(network, Network)]
    before, bystanders = host.passing_conditions(), Bystanders(request.get("locks", {}).get("host"))
    gc.disable()
    run_rounds(networks[0], networks[1:], request, output)
    for network in networks:
        network.run_steadily(BLOCK_S, STEADY_SHARE * profile["max_duration_s"])
    after, beside = host.passing_conditions(), bystanders.told()
    details = _details(opened, networks, profile, output) if request["with_details"] else [{} for _ in networks]
    told = {id(network): {**_timings(network), **more} for network, more in zip(networks, details)}  # noqa: B905
    return {
        "device": {
            "profile": profile["name"],
            **opened.describe(),
            **networks[0].session.fingerprint(),
            **host.identity(),
        },
        "conditions": {"core": core, **lasting, "before": before, "after": after, "beside": beside},
        "networks": [_failed(entry) if isinstance(entry, RunnerError) else told[id(entry)] for entry in found],
        "seed": seed,
        "duration_s": time.monotonic() - begun,
    }


def _compiled(opened: Device, path: str, index: int, request: dict[str, Any], output: Output) -> Network | RunnerError:
    """Return a network that is ready to be timed, or what is wrong with it alone."""
    output.emit("progress", phase=f"compiling {path}", network=index)
    try:
        network = Network(opened, path, np.random.default_rng(request["seed"]))
        output.emit("progress", phase=f"warming up {path}", network=index)
        network.warm_up(request["profile"]["num_warmups"])
    except RunnerError as error:
        return error
    except (RuntimeError, MemoryError) as error:
        return RunnerError("runtime", f"{path}: device {opened.name!r} failed: {error or type(error).__name__}")
    return network


def _failed(error: RunnerError) -> dict[str, Any]:
    return {"error": str(error), "kind": error.kind}


def _timings(network: Network) -> dict[str, Any]:
    return {
        "samples_ms": [round(sample_s * 1e3, 6) for sample_s in network.samples_s],
        "rounds_ms": [round(round_s * 1e3, 6) for round_s in network.rounds_s],
        "was_interrupted": network.was_interrupted,
        "read_ms": network.read_ms,
        "compile_ms": network.compile_ms,
        "first_inference_ms": network.first_inference_ms,
        "peak_memory_bytes": network.peak_memory_bytes,
        "size_bytes": network.path.stat().st_size,
    }


def run_rounds(reference: Network, models: list[Network], request: dict[str, Any], output: Output) -> None:
    """Time the reference and the models in turn, each round in a new random order.

    A model leaves when the interval of its ratio is narrow enough, or its time (the reference's included) is spent;
    none leaves before `min_rounds`. The interval is looked at after every tenth more of rounds. All blocks have equally
    many inferences, as the shortest of more would be shorter.
    """
    profile, seed = request["profile"], request["seed"]
    budget_s, min_rounds, order = profile["max_duration_s"], profile["min_rounds"], random.Random(seed)
    num_inferences = math.ceil(BLOCK_S / max(network.fastest_s for network in [reference, *models]))
    active, widths = list(models), {}
    next_look, announced = min_rounds, 0.0
    while active:
        entries = [reference, *active]
        order.shuffle(entries)
        durations_s = {id(entry): entry.run_block(num_inferences) for entry in entries}
        for model in active:
            model.spent_s += durations_s[id(model)] + durations_s[id(reference)]
        num_rounds = len(reference.rounds_s)
        if num_rounds >= next_look:
            next_look = math.ceil(num_rounds * 1.1)
            widths = {id(model): _half_width(model, reference, min_rounds, seed) for model in active}
            active = [model for model in active if widths[id(model)] > profile["target_half_width"]]
        if num_rounds >= min_rounds:
            active = [model for model in active if model.spent_s < budget_s]
        if time.monotonic() - announced >= PROGRESS_INTERVAL_S:
            announced = time.monotonic()
            done = sum(min(model.spent_s / budget_s, 1.0) if model in active else 1.0 for model in models)
            output.emit("progress", phase="measuring", done=done, half_width=max(widths.values(), default=None))


def _half_width(model: Network, reference: Network, min_rounds: int, seed: int) -> float:
    ratios = model.ratios_to(reference, min_rounds)
    return half_width(hierarchical_interval([ratios], np.random.default_rng(seed)))


def _details(opened: Device, networks: list[Network], profile: dict[str, Any], output: Output) -> list[dict[str, Any]]:
    """Return `latency_ms` and `layers`, what else device and host tell, and `stream` where the profile wants one."""
    output.emit("progress", phase="reading the device's counters")
    details = device_times(opened, networks) if opened.has_counters else [{"latency_ms": None} for _ in networks]
    for network, found in zip(networks, details):  # noqa: B905 (Python 3.8)
        output.emit("progress", phase=f"asking {opened.name} about {network.path}")
        found.update(opened.details(network, DETAILS_SHARE * profile["max_duration_s"]))
        if profile["mode"] == "stream":
            found["stream"] = run_stream(network, profile, output)
    if profile["kind"] == "openvino" and (meter := find_meter()) is not None:
        output.emit("progress", phase="reading the energy that the idle host uses")
        idle_w = measure_idle_w(meter, ENERGY_S)
        for network, found in zip(networks, details):  # noqa: B905 (Python 3.8)
            output.emit("progress", phase=f"reading the energy that {network.path} uses")
            found.update(energy=measure_energy(meter, network.infer, idle_w, ENERGY_S))
    return details


def device_times(opened: Device, networks: list[Network]) -> list[dict[str, Any]]:
    """Time the operations by the device's own counters, in a pass of its own, because counting slows inference.

    Returns:
        For each network `latency_ms`, the median over inferences of the sum of the operations' times (of the inferences
        that nobody interrupted, if they are enough), and `layers`, each operation's mean; None and none where the
        counters stand still, as they do for a network that takes less than they tell.
    """
    counted: list[tuple[CountedNetwork, list[float], list[float], list[list[Operation]]]]
    counted = [(CountedNetwork(opened, network), [], [], []) for network in networks]
    for _ in range(NUM_COUNTED_ROUNDS):
        for network, all_ms, quiet_ms, told in counted:
            network.infer()  # settles the caches, as in `run_block`
            num_switches = host.num_preemptions()
            all_ms.append(network.infer())
            told.append(network.operations())
            if host.num_preemptions() == num_switches:
                quiet_ms.append(all_ms[-1])
    chosen = [quiet_ms if len(quiet_ms) >= MIN_QUIET_INFERENCES else all_ms for _, all_ms, quiet_ms, _ in counted]
    medians_ms = [float(np.median(times_ms)) for times_ms in chosen]
    means = later_operations if opened.counts_mean else _mean_operations
    return [
        {"latency_ms": median_ms, "layers": means(told)} if median_ms > 0 else {"latency_ms": None}
        for median_ms, (_, _, _, told) in zip(medians_ms, counted)  # noqa: B905 (Python 3.8)
    ]


def later_operations(told: list[list[Operation]]) -> list[Operation]:
    """Return the means over all but the first two inferences, from the means over the first 2, 4, ...

    The very first pays once for each operation, such as the packing of weights: a thousand times what it takes later.
    """
    total = 2 * len(told)
    early_ms = {operation["name"]: operation["ms"] for operation in told[0]}
    later = []
    for o in told[-1]:
        ms = max((total * o["ms"] - 2 * early_ms.get(o["name"], 0.0)) / (total - 2), 0.0)
        later.append(Operation(name=o["name"], type=o["type"], kernel=o["kernel"], ms=ms))
    return later


def _mean_operations(told: list[list[Operation]]) -> list[Operation]:
    means = np.mean([[operation["ms"] for operation in operations] for operations in told], axis=0)
    named = zip(told[-1], means)  # noqa: B905 (Python 3.8)
    return [Operation(name=o["name"], type=o["type"], kernel=o["kernel"], ms=float(ms)) for o, ms in named]


def evaluate(request: dict[str, Any], output: Output) -> dict[str, Any]:
    """Infer every image of `images`, a .npy of `N x C x H x W`, one by one, and write `logits`, a .npy of `N x K`."""
    images_NCHW = np.load(request["images"], mmap_mode="r")
    opened = open_device(request["profile"])
    network = _compiled(opened, request["model"], 0, request, output)
    if isinstance(network, RunnerError):
        raise network
    expected = network.inputs[0].shape
    if (1, *images_NCHW.shape[1:]) != expected:
        raise RunnerError("input", f"{request['model']}: takes {expected}, the images are {images_NCHW.shape}.")
    logits_NK, announced = [], 0.0
    for index, image_CHW in enumerate(images_NCHW):
        network.inputs[0] = image_CHW[None].astype(network.inputs[0].dtype)
        network.infer()
        logits_NK.append(network.outputs[0].reshape(-1).astype(np.float32))
        if time.monotonic() - announced >= PROGRESS_INTERVAL_S:
            announced = time.monotonic()
            output.emit("progress", phase="evaluating", done=index / len(images_NCHW), half_width=None)
    with Path(request["logits"]).open("wb") as file:
        np.save(file, np.stack(logits_NK))
    return {"device": {"precision": network.session.fingerprint()["precision"]}}


def query(request: dict[str, Any], output: Output) -> dict[str, Any]:
    """Return for each model what the device does not support; the device itself need not be there."""
    opened = open_device(request["profile"], must_be_there=False)
    unsupported = []
    for index, path in enumerate(request["models"]):
        output.emit("progress", phase=f"reading {path}", network=index + 1)
        unsupported.append(opened.unsupported(opened.read(path)))
    return {"unsupported": unsupported}


def convert(request: dict[str, Any], output: Output) -> dict[str, Any]:
    """Write `model`, an ONNX file, as OpenVINO's IR: `ir`, a .xml, and a .bin beside it."""
    output.emit("progress", phase=f"converting {request['model']}")
    device.save_ir(request["model"], request["ir"])
    return {}


def describe(request: dict[str, Any], output: Output) -> dict[str, Any]:  # noqa: ARG001
    """Return the device's fingerprint."""
    profile = request["profile"]
    host.pin_to_core(profile)
    opened = open_device(profile)
    found = {**opened.describe(), **opened.fingerprint()}
    return {"device": {"profile": profile["name"], **found, **host.identity()}}


def list_devices(request: dict[str, Any], output: Output) -> dict[str, Any]:  # noqa: ARG001
    """Return the name of every OpenVINO device of this host, and the maker's name for it."""
    return {"devices": device.list_devices()}
