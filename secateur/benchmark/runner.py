"""The runner: times ONNX files with OpenVINO, and does nothing else.

It is a program, not a module of the package: it runs by path, under any Python >= 3.8 that has numpy and OpenVINO, on
the host that has the device. It reads one JSON request, a line, from stdin and writes JSON lines to stdout::

    {"command": "measure", "profile": {...}, "reference": path, "models": [path, ...], "seed": 0,
     "lock": path, "lock_timeout_s": 600, "timeout_s": 120}
    {"command": "describe", "profile": {...}, "timeout_s": 120}
    {"command": "devices", "timeout_s": 120}

    {"event": "waiting", "holder": "4711"}
    {"event": "progress", "phase": "measuring", "done": 0.4, "half_width": 0.02}
    {"event": "result", ...}
    {"event": "error", "kind": "input" | "device" | "busy" | "runtime", "message": "..."}

Whoever starts it holds the other end of its stdin: when that closes, the runner ends. The device's lock is held by this
process and by no other, so it lasts exactly as long as the measurement, however that ends.
"""

from __future__ import annotations

import os
import sys

if __name__ == "__main__":
    # A program run by path has its own folder first on sys.path: nothing beside it may shadow the standard library.
    _folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 (pathlib is not imported yet)
    sys.path[:] = [entry for entry in sys.path if entry != _folder]
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # numpy would start a thread for each core, and wait for them

import faulthandler
import fcntl
import gc
import json
import math
import platform
import random
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

import numpy as np

MIN_BLOCK_S = 1e-3
"""Shorter inferences are timed several at a time: switching between models is then small beside what is timed."""
PROGRESS_INTERVAL_S = 0.25
LOCK_POLL_S = 0.05
NUM_COUNTED_ROUNDS = 20
MIN_QUIET_INFERENCES = 5
NUM_RESAMPLES = 1000
NO_COUNTERS: dict[str, float | None] = {"ms": None, "ratio": None}


class RunnerError(Exception):
    """What the one who asked must know; `kind` is one of the protocol's."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Output:
    """The protocol's way out; what a library prints to stdout goes to stderr from now on."""

    def __init__(self, timeout_s: float) -> None:
        self._file = os.fdopen(os.dup(1), "w", encoding="utf-8")
        self._timeout_s = timeout_s
        os.dup2(2, 1)
        self._stay_alive()

    def emit(self, event: str, **fields: Any) -> None:
        """Write one event."""
        self._stay_alive()
        self._file.write(json.dumps({"event": event, **fields}) + "\n")
        self._file.flush()

    def _stay_alive(self) -> None:
        # A native call that hangs may hold the interpreter, and `_end_with_parent` with it. This ends the process all
        # the same, and says where it was.
        faulthandler.dump_traceback_later(self._timeout_s, exit=True)


class Device:
    """An OpenVINO device, opened as a profile says.

    Raises:
        RunnerError: OpenVINO is absent, has no such device, or the device has no such setting.
    """

    def __init__(self, profile: dict[str, Any]) -> None:
        self._ov = load_openvino()
        self._core = self._ov.Core()
        self._profile = profile
        self.name = profile["device"]
        available = list(self._core.available_devices)
        if not any(name == self.name or name.startswith(f"{self.name}.") for name in available):
            raise RunnerError(
                "device",
                f"OpenVINO has no device {self.name!r} here. Available: {', '.join(available) or 'none'}."
                " Name one of them in the profile, or install the driver of yours.",
            )
        supported = set(self._core.get_property(self.name, "SUPPORTED_PROPERTIES"))
        self.has_counters = "PERF_COUNT" in supported
        self._config = {"PERFORMANCE_HINT": "LATENCY"}
        if "NUM_STREAMS" in supported:
            self._config["NUM_STREAMS"] = "1"
        for field, key in (("num_threads", "INFERENCE_NUM_THREADS"), ("precision", "INFERENCE_PRECISION_HINT")):
            if profile[field] is not None:
                if key not in supported:
                    message = f"device {self.name!r} has no setting for {field!r}: remove it from the profile."
                    raise RunnerError("device", message)
                self._config[key] = str(profile[field])

    def read(self, path: str) -> Any:
        """Read an ONNX file; an open batch size becomes 1."""
        try:
            model = self._core.read_model(path)
        except RuntimeError as exc:
            raise RunnerError("input", f"{path}: OpenVINO cannot read this model: {_reason(exc)}") from None
        for parameter in model.inputs:
            shape = parameter.partial_shape
            if shape.rank.is_static and len(shape) > 0 and shape[0].is_dynamic:
                shape[0] = 1
                model.reshape({parameter: shape})
            if shape.is_dynamic:
                problem = f"input {parameter.any_name!r} has the open shape {shape}: export it with fixed sizes."
                raise RunnerError("input", f"{path}: {problem}")
        return model

    def compile(self, model: Any, path: str, **more: Any) -> Any:
        """Compile a model as the profile says."""
        try:
            return self._core.compile_model(model, self.name, {**self._config, **more})
        except RuntimeError as exc:
            message = f"{path}: device {self.name!r} cannot run this model: {_reason(exc)}"
            raise RunnerError("runtime", message) from None

    def probe(self) -> Any:
        """Compile the smallest of models, to ask the device how it runs them."""
        opset = self._ov.opset8
        parameter = opset.parameter([1, 1], np.float32)
        return self.compile(self._ov.Model([opset.relu(parameter)], [parameter], "probe"), "probe")

    def fingerprint(self, compiled: Any) -> dict[str, Any]:
        """Describe the device; precision and threads as the compiled model has them, not as they were asked for."""
        threads, precision = "INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT"
        known = set(compiled.get_property("SUPPORTED_PROPERTIES"))
        return {
            "profile": self._profile["name"],
            "device": self.name,
            "full_name": str(self._core.get_property(self.name, "FULL_DEVICE_NAME")).strip(),
            "runtime": self._ov.get_version(),
            "num_threads": int(compiled.get_property(threads)) if threads in known else None,
            "precision": compiled.get_property(precision).get_type_name() if precision in known else "unknown",
            "host": platform.node(),
            "python": platform.python_version(),
        }


class Network:
    """One compiled model, its buffers, and what was timed.

    Args:
        device: Where it runs.
        path: The ONNX file.
        rng: Draws the input, uniform in [0, 1).

    Raises:
        RunnerError: The file is no model, an input's shape is open, or the device cannot run it.
    """

    def __init__(self, device: Device, path: str, rng: np.random.Generator) -> None:
        self.path = Path(path)
        self._device = device
        start = time.perf_counter()
        self._model = device.read(path)
        self.read_ms = (time.perf_counter() - start) * 1e3
        start = time.perf_counter()
        self.compiled = device.compile(self._model, path)
        self._request = self.compiled.create_infer_request()
        self.compile_ms = (time.perf_counter() - start) * 1e3
        tensors = [self._request.get_input_tensor(i).data for i in range(len(self.compiled.inputs))]
        self._inputs = [rng.random(tensor.shape).astype(tensor.dtype) for tensor in tensors]
        self._outputs: list[np.ndarray[Any, Any]] = []
        self.first_inference_ms = self.infer() * 1e3
        results = [self._request.get_output_tensor(i).data for i in range(len(self.compiled.outputs))]
        self._outputs = [np.empty_like(result) for result in results]
        self.block_size = 1
        self.samples_s: list[float] = []
        self.rounds_s: list[float] = []
        """Mean total latency in each round's block."""
        self.was_interrupted: list[bool] = []
        """Whether another process was given the core meanwhile, for each round."""
        self.spent_s = 0.0

    def infer(self) -> float:
        """Return the total latency in seconds: copy the inputs in, infer, copy the outputs out."""
        request = self._request
        start = time.perf_counter()
        for index, values in enumerate(self._inputs):
            np.copyto(request.get_input_tensor(index).data, values)
        request.infer(share_outputs=True)
        for index, values in enumerate(self._outputs):
            np.copyto(values, request.get_output_tensor(index).data)
        return time.perf_counter() - start

    def warm_up(self, num_warmups: int) -> None:
        """Infer untimed, and choose how many inferences make a block."""
        fastest_s = min([self.infer() for _ in range(num_warmups)], default=self.first_inference_ms / 1e3)
        self.block_size = math.ceil(MIN_BLOCK_S / fastest_s)

    def run_block(self) -> float:
        """Time one block and return how long all of it took, in seconds.

        Its first inference is not counted: it pays for the caches that another model's block has filled, and as blocks
        differ in size, would make a long inference look longer against a short one (by 2 to 4 % for CIFAR ResNets).
        """
        unsettled_s = self.infer()
        num_switches = _num_preemptions()
        samples_s = [self.infer() for _ in range(self.block_size)]
        self.was_interrupted.append(_num_preemptions() > num_switches)
        self.samples_s += samples_s
        self.rounds_s.append(sum(samples_s) / self.block_size)
        return unsettled_s + sum(samples_s)

    def ratio_to(self, reference: Network, min_rounds: int, seed: int) -> dict[str, float]:
        """Return the interval of this model's total latency over the reference's, paired by round.

        Only the rounds that nobody interrupted count, if they are at least `min_rounds`; else all do. (An interruption
        is likelier and weighs less in the longer of two blocks: on a busy machine that alone moves a ratio by 1 %.)
        """
        interrupted = np.asarray(self.was_interrupted) | np.asarray(reference.was_interrupted[: len(self.rounds_s)])
        ratios = np.asarray(self.rounds_s) / np.asarray(reference.rounds_s[: len(self.rounds_s)])
        if np.count_nonzero(~interrupted) >= min_rounds:
            ratios = ratios[~interrupted]
        return bootstrap_median(ratios, np.random.default_rng(seed))

    def with_counters(self) -> Callable[[], float]:
        """Compile once more, with performance counters.

        Returns:
            A function that infers once and returns the sum of the operations' times in seconds.
        """
        request = self._device.compile(self._model, str(self.path), PERF_COUNT=True).create_infer_request()
        for index, values in enumerate(self._inputs):
            np.copyto(request.get_input_tensor(index).data, values)
        is_mean = self._device.name == "CPU"  # its counters tell the mean over all inferences so far (up to 2026.4)
        num_inferences, total_s = 0, 0.0

        def infer() -> float:
            nonlocal num_inferences, total_s
            request.infer(share_outputs=True)
            told_s = float(sum(operation.real_time.total_seconds() for operation in request.profiling_info))
            num_inferences, before_s = num_inferences + 1, total_s
            total_s = told_s * num_inferences if is_mean else total_s + told_s
            return total_s - before_s

        return infer


def load_openvino() -> Any:
    """Import OpenVINO, once nothing that it prints can spoil the protocol.

    Its converter is left out: it takes longer than all the rest, and its import reports to a server.

    Raises:
        RunnerError: It is not installed.
    """
    sys.modules["openvino.tools.ovc"] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as exc:
        message = f"{sys.executable} cannot import OpenVINO: {exc}. Install it: pip install 'secateur[edge]'."
        raise RunnerError("runtime", message) from None
    return openvino


def bootstrap_median(values: np.ndarray[Any, Any], rng: np.random.Generator) -> dict[str, float]:
    """Return the median, its 95 % percentile-bootstrap interval and its standard error.

    A resample of the sorted values x, drawn with replacement, has the median x[floor(n U)], where U is the middle order
    statistic of n uniform numbers: a Beta variable (Maritz and Jarrett 1978, A note on estimating the variance of the
    sample median). Drawing it is exact and costs nothing of n; for even n the two middle ones are drawn jointly.

    Args:
        values: `n` finite numbers, n >= 1, in any order.
        rng: The source of chance.
    """
    ordered = np.sort(values)
    n = len(ordered)
    rank = (n + 1) // 2
    lower = rng.beta(rank, n - rank + 1, NUM_RESAMPLES)
    upper = lower if n % 2 else lower + (1 - lower) * rng.beta(1, n - rank, NUM_RESAMPLES)
    indices = np.minimum((np.stack([lower, upper]) * n).astype(int), n - 1)
    medians = ordered[indices].mean(axis=0)
    low, high = np.percentile(medians, [2.5, 97.5])
    estimate = float(np.median(ordered))
    return {
        "estimate": estimate,
        "low": min(float(low), estimate),
        "high": max(float(high), estimate),
        "standard_error": float(medians.std()),
    }


def half_width(interval: dict[str, float]) -> float:
    """Return half the interval's width, relative to the estimate."""
    return (interval["high"] - interval["low"]) / 2 / interval["estimate"]


def quantiles(samples_s: list[float]) -> dict[str, float]:
    """Summarise timings, in milliseconds."""
    samples_ms = np.asarray(samples_s) * 1e3
    p50, p90 = np.percentile(samples_ms, [50, 90]).tolist()
    mean, fastest = float(samples_ms.mean()), float(samples_ms.min())
    return {"p50": p50, "p90": p90, "mean": mean, "min": fastest, "num_samples": len(samples_ms)}


def run_rounds(reference: Network, models: list[Network], request: dict[str, Any], output: Output) -> None:
    """Time the reference and the models in turn, each round in a new random order.

    A model leaves when the interval of its ratio is narrow enough, or its time (the reference's included) is spent;
    none leaves before `min_rounds`. The interval is looked at after every tenth more of rounds.
    """
    profile, seed = request["profile"], request["seed"]
    budget_s, min_rounds, order = profile["max_duration_s"], profile["min_rounds"], random.Random(seed)
    active, widths = list(models), {}
    next_look, announced = min_rounds, 0.0
    while active:
        entries = [reference, *active]
        order.shuffle(entries)
        durations_s = {id(entry): entry.run_block() for entry in entries}
        for model in active:
            model.spent_s += durations_s[id(model)] + durations_s[id(reference)]
        num_rounds = len(reference.rounds_s)
        if num_rounds >= next_look:
            next_look = math.ceil(num_rounds * 1.1)
            widths = {id(model): half_width(model.ratio_to(reference, min_rounds, seed)) for model in active}
            active = [model for model in active if widths[id(model)] > profile["target_half_width"]]
        if num_rounds >= min_rounds:
            active = [model for model in active if model.spent_s < budget_s]
        if time.monotonic() - announced >= PROGRESS_INTERVAL_S:
            announced = time.monotonic()
            done = sum(min(model.spent_s / budget_s, 1.0) if model in active else 1.0 for model in models)
            output.emit("progress", phase="measuring", done=done, half_width=max(widths.values(), default=None))


def device_times(networks: list[Network]) -> list[dict[str, float | None]]:
    """Time the operations by the device's own counters, in a pass of its own, because counting slows inference.

    Args:
        networks: The reference comes first.

    Returns:
        For each network `ms`, the median over inferences of the sum of the operations' times (of the inferences that
        nobody interrupted, if they are enough), and `ratio` to the reference's; None where the counters stand still.
    """
    counted: list[tuple[Callable[[], float], list[float], list[float]]]
    counted = [(network.with_counters(), [], []) for network in networks]
    for _ in range(NUM_COUNTED_ROUNDS):
        for infer, all_s, quiet_s in counted:
            infer()  # settles the caches, as in `run_block`
            num_switches = _num_preemptions()
            all_s.append(infer())
            if _num_preemptions() == num_switches:
                quiet_s.append(all_s[-1])
    chosen = [quiet_s if len(quiet_s) >= MIN_QUIET_INFERENCES else all_s for _, all_s, quiet_s in counted]
    medians_ms = [float(np.median(times_s)) * 1e3 for times_s in chosen]
    if min(medians_ms) <= 0:
        return [NO_COUNTERS] * len(networks)
    return [{"ms": median_ms, "ratio": median_ms / medians_ms[0]} for median_ms in medians_ms]


def measure(request: dict[str, Any], output: Output) -> dict[str, Any]:
    """Time the request's models against its reference; `reports` holds the fields of a `LatencyReport` each."""
    profile, seed = request["profile"], request["seed"]
    core = pin_to_core(profile)
    device = Device(profile)
    networks: list[Network] = []
    for path in [request["reference"], *request["models"]]:
        output.emit("progress", phase=f"compiling {path}")
        networks.append(Network(device, path, np.random.default_rng(seed)))
    before = host_conditions()
    gc.disable()
    for network in networks:
        output.emit("progress", phase=f"warming up {network.path}")
        network.warm_up(profile["num_warmups"])
    run_rounds(networks[0], networks[1:], request, output)
    output.emit("progress", phase="reading the device's counters")
    counted = device_times(networks) if device.has_counters else [NO_COUNTERS] * len(networks)
    conditions = {"core": core, "before": before, "after": host_conditions()}
    common = {
        "reference_total_latency_ms": quantiles(networks[0].samples_s),
        "reference_latency_ms": counted[0]["ms"],
        "device": device.fingerprint(networks[0].compiled),
    }
    reports = [
        {
            "latency_ratio": model.ratio_to(networks[0], profile["min_rounds"], seed),
            "device_latency_ratio": times["ratio"],
            "total_latency_ms": quantiles(model.samples_s),
            "latency_ms": times["ms"],
            "num_rounds": len(model.rounds_s),
            "read_ms": model.read_ms,
            "compile_ms": model.compile_ms,
            "first_inference_ms": model.first_inference_ms,
            "size_bytes": model.path.stat().st_size,
            "conditions": {**conditions, "num_interrupted_blocks": sum(model.was_interrupted)},
            **common,
        }
        for model, times in list(zip(networks, counted))[1:]  # noqa: B905 (Python 3.8)
    ]
    return {"reports": reports}


def describe(request: dict[str, Any], output: Output) -> dict[str, Any]:  # noqa: ARG001
    """Return the device's fingerprint."""
    pin_to_core(request["profile"])
    device = Device(request["profile"])
    return {"device": device.fingerprint(device.probe())}


def list_devices(request: dict[str, Any], output: Output) -> dict[str, Any]:  # noqa: ARG001
    """Return the name of every OpenVINO device of this host, and the maker's name for it."""
    core = load_openvino().Core()
    full_names = {name: core.get_property(name, "FULL_DEVICE_NAME") for name in core.available_devices}
    return {"devices": [{"name": name, "full_name": str(full).strip()} for name, full in full_names.items()]}


def pin_to_core(profile: dict[str, Any]) -> int | None:
    """Keep a single-threaded measurement on one core.

    Returns:
        The core: the fastest that this process may use, and of equals the last, as the first serves interrupts. None
        where nothing is pinned.
    """
    if profile["num_threads"] != 1 or not hasattr(os, "sched_setaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    frequencies = {core: _read_number(f"{_scaling(core)}/cpuinfo_max_freq") or 0.0 for core in allowed}
    core = max(allowed, key=lambda core: (frequencies[core], core))
    os.sched_setaffinity(0, {core})
    return core


def host_conditions() -> dict[str, Any]:
    """Return load, governor, frequency (MHz) and temperature (degrees Celsius), as far as they can be read."""
    scaling = _scaling(max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0)
    zones = [_read_number(str(zone)) for zone in Path("/sys/class/thermal").glob("thermal_zone*/temp")]
    frequency_khz, hottest = _read_number(f"{scaling}/scaling_cur_freq"), max((z for z in zones if z), default=None)
    conditions = {
        "load_average": os.getloadavg()[0],
        "governor": _read_text(f"{scaling}/scaling_governor"),
        "frequency_mhz": frequency_khz and frequency_khz / 1e3,
        "temperature_c": hottest and hottest / 1e3,
    }
    return {name: value for name, value in conditions.items() if value is not None}


def take_lock(file: TextIO, timeout_s: float, output: Output) -> None:
    """Lock the device; the operating system frees it when this process ends, in whatever way.

    Raises:
        RunnerError: Another process held it all the time.
    """
    started, announced = time.monotonic(), -math.inf
    while not _try_lock(file):
        now = time.monotonic()
        holder = _read_text(file.name) or "unknown"
        if now - started >= timeout_s:
            raise RunnerError("busy", f"process {holder} held it for {timeout_s:g} s (lock file {file.name})")
        if now - announced >= 1.0:
            output.emit("waiting", holder=holder)
            announced = now
        time.sleep(LOCK_POLL_S)
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()


def _num_preemptions() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def _try_lock(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _scaling(core: int) -> str:
    return f"/sys/devices/system/cpu/cpu{core}/cpufreq"


def _read_text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8").strip() or None
    except OSError:  # much of /sys is absent in a container
        return None


def _read_number(path: str) -> float | None:
    text = _read_text(path)
    return float(text) if text else None


def _reason(error: RuntimeError) -> str:
    """Return the last line of OpenVINO's message; those before it name its own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else repr(error)


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(1)


def main() -> None:
    """Serve one request."""
    faulthandler.enable()
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    output = Output(request["timeout_s"])
    commands = {"measure": measure, "describe": describe, "devices": list_devices}
    try:
        if request["command"] == "measure":
            lock_file = Path(request["lock"]).open("a+", encoding="utf-8")  # noqa: SIM115 (open until the process ends)
            take_lock(lock_file, request["lock_timeout_s"], output)
        output.emit("result", **commands[request["command"]](request, output))
    except RunnerError as error:
        output.emit("error", kind=error.kind, message=str(error))
    os._exit(0)  # taking OpenVINO down would take longer than it is worth


if __name__ == "__main__":
    main()
