"""How fast four training loops are on this machine, each on the same network, images and batch size.

    tutorial   the loop of PyTorch's CIFAR tutorial: f32, a DataLoader with two workers, transforms image by image
    obvious    the same with channels-last and bf16 autocast
    compiled   the same with torch.compile, too; its compilation is told apart
    secateur   ours

and the second and the last again with as many networks as threads, trained side by side with one thread each: ours as a
sweep trains its candidates on a CPU (threads of one process), the other as one would by hand (a process each).

Each loop has a process of its own. They take turns, a block of minibatches each, so that what else runs on the machine
hinders all of them; the median block counts. CPU time is that of the process and its data loader's workers, and says
more where much else runs, the least of all blocks most. The share of the peak is what convolutions and linear layers
compute (three times the forward pass) against the fastest multiplication of large matrices in the same precision,
measured in the same turns.

    python benchmarks/training.py [--models resnet20_cifar resnet56_cifar] [--pruned] [--rounds 5] [--threads 2]

With --data FOLDER (CIFAR as train/CLASS/*.jpg, test/CLASS/*.jpg) and --weights FILE it also tells the seconds each loop
takes from the same pruned ResNet56 (the off-the-shelf schedule) to --target top1, evaluations not counted.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import itertools
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from secateur import resources
from secateur.config import Dataset as DatasetSection
from secateur.config import Normalize
from secateur.datasets import ImageSet, Splits, load_splits
from secateur.models import create_model, load_weights
from secateur.pruning import ScheduleEngine
from secateur.schedule import load_schedule
from secateur.thinning import count_macs
from secateur.training import (
    NoCallbacks,
    TrainingSettings,
    evaluate,
    fastest_precision,
    recalibrate_bn,
    train,
)

BATCH_SIZE = 128
NORMALIZE = Normalize(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
OFF_THE_SHELF = Path("schedules/compression/resnet56-filters.yaml")
LR = 0.01
LOOK_EVERY = 20
"""Minibatches between two evaluations on the way to a target."""


@dataclass(frozen=True)
class Loop:
    """A loop that others would write."""

    is_bf16: bool
    is_compiled: bool = False


@dataclass(frozen=True)
class Network:
    """What is trained."""

    name: str
    is_pruned: bool

    def __str__(self) -> str:
        return f"{self.name}{', pruned off the shelf' if self.is_pruned else ''}"

    def create(self) -> nn.Module:
        """Return it with new weights."""
        module = create_model(self.name, 10)
        if self.is_pruned:
            prune_off_the_shelf(module)
        return module


def prune_off_the_shelf(module: nn.Module) -> None:
    """Remove from a ResNet56 what the schedule that everybody starts with removes before training."""
    schedule = load_schedule(resources.find(str(OFF_THE_SHELF)))
    ScheduleEngine(module, schedule, torch.zeros(1, 3, 32, 32), base_lr=LR, num_epochs=0).prune_before_training()


LOOPS = {"tutorial": Loop(False), "obvious": Loop(True), "compiled": Loop(True, True), "secateur": None}


class Photographs(Dataset[tuple[Tensor, int]]):
    """What torchvision's CIFAR10 is: images one by one, transformed by PIL."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(NORMALIZE.mean, NORMALIZE.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images.images_NHWC[index].numpy())
        return self.transform(image), int(self.images.labels_N[index])


def steps_of(loop: Loop, model: nn.Module, images: ImageSet) -> Iterator[None]:
    """Train for ever, as the tutorial does: one step each time the iterator is asked."""
    model = model.train()
    if loop.is_bf16:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    called: Callable[[Tensor], Tensor] = torch.compile(model) if loop.is_compiled else model
    optimizer = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=1e-4)
    while True:
        for inputs_NCHW, labels_N in DataLoader(
            Photographs(images),
            BATCH_SIZE,
            shuffle=True,
            num_workers=2,
            drop_last=True,
            multiprocessing_context="fork",  # as from any script; this process was spawned, and would spawn
        ):
            if loop.is_bf16:
                inputs_NCHW = inputs_NCHW.to(memory_format=torch.channels_last)
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=loop.is_bf16):
                loss = F.cross_entropy(called(inputs_NCHW), labels_N)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            loss.item()  # its running loss
            yield


def ours(model: nn.Module, images: ImageSet, callbacks: NoCallbacks | None = None) -> float:
    """Return the seconds that our loop takes for an epoch, all before and after it included."""
    settings = TrainingSettings(epochs=1, lr=LR, batch_size=BATCH_SIZE, precision=fastest_precision("cpu"))
    started = time.perf_counter()
    train(model, images, first(images, 1), settings, callbacks or NoCallbacks(), normalize=NORMALIZE)
    return time.perf_counter() - started


def first(images: ImageSet, count: int) -> ImageSet:
    return ImageSet(images_NHWC=images.images_NHWC[:count], labels_N=images.labels_N[:count])


def peak_flops(dtype: torch.dtype) -> float:
    """Return multiplications and additions a second of matrices of 2048 x 2048."""
    matrix = torch.randn(2048, 2048).to(dtype)
    started = time.perf_counter()
    matrix @ matrix
    return float(2 * 2048**3 / (time.perf_counter() - started))


def noise(num_images: int) -> ImageSet:
    """Return images of CIFAR's shape: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    return ImageSet(
        images_NHWC=torch.randint(0, 256, (num_images, 32, 32, 3), dtype=torch.uint8, generator=generator),
        labels_N=torch.randint(10, (num_images,), generator=generator),
    )


@dataclass
class Turns:
    """One loop in a process of its own, so that what it makes of the process is its own, too."""

    loop: str
    connection: Connection
    process: psutil.Process

    def take(self, num_minibatches: int) -> tuple[float, float]:
        """Let it train for so long; return seconds, and CPU seconds of it and its data loader."""
        cpu_s = self.cpu_s()
        self.connection.send(num_minibatches)
        return self.connection.recv(), self.cpu_s() - cpu_s

    def end(self) -> None:
        """Let it go."""
        self.connection.send(0)

    def cpu_s(self) -> float:
        """Return the CPU time so far."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(times.user + times.system for times in (member.cpu_times() for member in family))


def start(loop: str, network: Network, images: ImageSet, threads: int, num_networks: int = 1) -> Turns:
    """Start a loop; the first turn is to warm it up."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=take_turns, args=(there, loop, network, images, threads, num_networks)
    )
    process.start()
    return Turns(loop, here, psutil.Process(process.pid))


def take_turns(
    connection: Connection, loop: str, network: Network, images: ImageSet, threads: int, num_networks: int
) -> None:
    """Train for as many minibatches as are asked for, and tell the seconds; 0 ends it."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    models, own = [network.create() for _ in range(num_networks)], LOOPS[loop]
    steps = None if own is None else steps_of(own, models[0], images)
    with ThreadPoolExecutor(num_networks, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        while num_minibatches := connection.recv():
            started = time.perf_counter()
            if steps is None:
                part = first(images, num_minibatches * BATCH_SIZE)
                list(pool.map(lambda model, part=part: ours(model, part), models))
            else:
                for _ in range(num_minibatches):
                    next(steps)
            connection.send(time.perf_counter() - started)


def compare_side_by_side(network: Network, rounds: int, block: int, num_networks: int) -> None:
    """Print the images a second of all networks together, each trained with one thread."""
    images = noise((rounds * block + 2) * BATCH_SIZE)
    loops = {
        "obvious": [start("obvious", network, images, 1) for _ in range(num_networks)],
        "secateur": [start("secateur", network, images, 1, num_networks)],
    }
    taken: dict[str, list[float]] = {loop: [] for loop in loops}
    with ThreadPoolExecutor(num_networks) as pool:
        for number in (2, *[block] * rounds):
            for loop, turns in loops.items():
                taken[loop].append(max(pool.map(lambda turn, number=number: turn.take(number)[0], turns)))
    for turn in itertools.chain(*loops.values()):
        turn.end()
    print(f"\n{network}, {num_networks} networks side by side, a thread each, {rounds} blocks of {block}, {load()}")
    for loop, seconds in taken.items():
        rates = [num_networks * block * BATCH_SIZE / s for s in seconds[1:]]
        print(f"{loop:>10} {statistics.median(rates):>9.0f} {min(rates):>8.0f} {max(rates):>8.0f}", flush=True)


def load() -> str:
    """Return how busy the machine was of late, all of this included."""
    return "load " + ", ".join(f"{load:.1f}" for load in os.getloadavg())


def compare(network: Network, loops: list[str], rounds: int, block: int, threads: int) -> None:
    """Print a row for each loop."""
    images = noise((rounds * block + 2) * BATCH_SIZE)
    flops_per_image = 6 * count_macs(network.create(), torch.zeros(1, 3, 32, 32))
    turns = [start(loop, network, images, threads) for loop in loops]
    warming = {turn.loop: turn.take(2) for turn in turns}  # starts the workers, compiles
    taken: dict[str, list[tuple[float, float]]] = {loop: [] for loop in loops}
    peaks: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for _ in range(rounds):
        for dtype, measured in peaks.items():
            measured.append(peak_flops(dtype))
        for turn in turns:
            taken[turn.loop].append(turn.take(block))
    for turn in turns:
        turn.end()
    print(f"\n{network}, batches of {BATCH_SIZE}, {rounds} blocks of {block}, {threads} threads, {load()}")
    print(
        f"{'loop':>10} {'images/s':>9} {'slowest':>8} {'fastest':>8} {'of peak':>8} {'CPU ms/image':>13} {'least':>6}"
    )
    for loop in loops:
        rates = [block * BATCH_SIZE / seconds for seconds, _ in taken[loop]]
        cpu_ms = [cpu_s / block / BATCH_SIZE * 1e3 for _, cpu_s in taken[loop]]
        rate = statistics.median(rates)
        is_f32 = loop == "tutorial" or (loop == "secateur" and fastest_precision("cpu") == "f32")
        share = rate * flops_per_image / max(peaks[torch.float32 if is_f32 else torch.bfloat16])
        seconds, cpu_s = warming[loop]
        print(
            f"{loop:>10} {rate:>9.0f} {min(rates):>8.0f} {max(rates):>8.0f} {share:>8.1%}"
            f" {statistics.median(cpu_ms):>13.2f} {min(cpu_ms):>6.2f}   first two: {seconds:.0f} s, CPU {cpu_s:.0f} s",
            flush=True,
        )


class Reached(Exception):  # noqa: N818 (it is no error)
    """The target, or the end of patience."""


class Race(NoCallbacks):
    """Looks at top1 now and then, while the clock stands still."""

    def __init__(self, model: nn.Module, splits: Splits, target: float, max_s: float) -> None:
        self.model, self.splits, self.target, self.max_s = model, splits, target, max_s
        self.top1 = self.spent_s = 0.0
        self.num_minibatches = 0
        self.started = time.perf_counter()

    def look(self) -> None:
        """Stop if the target is reached, or too late."""
        self.spent_s += time.perf_counter() - self.started
        was_training = self.model.training
        self.top1 = evaluate(self.model, self.splits.validation, self.splits.normalize).top1
        self.model.train(was_training)
        if self.top1 >= self.target or self.spent_s > self.max_s:
            raise Reached
        self.started = time.perf_counter()

    def on_minibatch_end(self, *_: object) -> None:
        """Count it."""
        self.num_minibatches += 1
        if self.num_minibatches % LOOK_EVERY == 0:
            self.look()


def to_target(splits: Splits, weights: Path, target: float, loops: list[str], max_s: float) -> None:
    """Print the seconds each loop takes to a top1 on validation images; ours recalibrates first, and that counts."""
    pruned = create_model("resnet56_cifar", 10)
    load_weights(pruned, weights)
    prune_off_the_shelf(pruned)
    before = evaluate(pruned, splits.validation, splits.normalize).top1
    print(f"\nfrom {before:.2f} to {target:.2f} % top1 of {len(splits.validation)} validation images, lr {LR:g}")
    for name in loops:
        model, loop = copy.deepcopy(pruned), LOOPS[name]
        race = Race(model, splits, target, max_s)
        with contextlib.suppress(Reached):
            if loop is not None:
                for _ in steps_of(loop, model, splits.train):
                    race.on_minibatch_end()
            recalibrate_bn(model, splits.train, splits.normalize)
            race.look()
            while True:
                ours(model, splits.train, race)
        print(
            f"{name:>10} {race.spent_s:>7.1f} s, {race.num_minibatches} minibatches, top1 {race.top1:.2f}", flush=True
        )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["resnet20_cifar", "resnet56_cifar"])
    parser.add_argument("--pruned", action="store_true", help="also ResNet56 without what the schedule prunes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--block", type=int, default=40, help="minibatches of a loop's turn")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--skip", nargs="*", default=[], choices=list(LOOPS))
    parser.add_argument("--data", type=Path)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--target", type=float, default=85.0)
    parser.add_argument("--max-seconds", type=float, default=600.0, help="of each loop on the way to the target")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    loops = [loop for loop in LOOPS if loop not in arguments.skip]
    networks = [Network(name, is_pruned=False) for name in arguments.models]
    if arguments.pruned:
        networks.append(Network("resnet56_cifar", is_pruned=True))
    for network in networks:
        compare(network, loops, arguments.rounds, arguments.block, arguments.threads)
        compare_side_by_side(network, arguments.rounds, arguments.block, arguments.threads)
    if arguments.data is not None:
        section = DatasetSection.model_validate(
            {
                "name": f"imagefolder:{arguments.data}",
                "validation": {"from": "test", "files": "even"},
                "normalize": NORMALIZE.model_dump(),
                "num_classes": 10,
                "input_size": 32,
            }
        )
        to_target(load_splits(section), arguments.weights, arguments.target, loops, arguments.max_seconds)


if __name__ == "__main__":
    main()
