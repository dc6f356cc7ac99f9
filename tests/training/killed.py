"""A training that can be killed: ``python -m tests.training.killed FOLDER`` writes its final weights there."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from secateur.pruning import ScheduleEngine
from secateur.training import TrainingSettings, train
from tests.flows.tiny import SIZE, TinyNetwork
from tests.schedule.documents import parse_text
from tests.training.networks import Unchanged, small_network, some_images

SETTINGS = TrainingSettings(
    epochs=6,
    lr=0.05,
    batch_size=8,
    ema_decay=0.9,
    nesterov=True,
    decay_vectors=False,
    distillation_weight=0.5,
    cutout=2,
    deterministic=True,
    precision="bf16",
)

SCHEDULE = """
version: 1
pruners:
  gradual:
    class: L1RankedStructureParameterPruner_AGP
    initial_sparsity: 0.1
    final_sparsity: 0.6
    group_type: Filters
    weights: [blocks.0.conv1.weight]
  fine:
    class: SensitivityPruner
    sensitivities: {fc.weight: 0.5}
  random:
    class: RandomLevelStructureParameterPruner
    group_type: Filters
    sparsity_range: [0.1, 0.6]
    weights: [blocks.1.conv1.weight]
extensions:
  thinner: {class: FilterRemover, thinning_func_str: remove_filters}
lr_schedulers:
  plateau: {class: ReduceLROnPlateau, factor: 0.5, patience: 0}
policies:
  - {pruner: {instance_name: fine}, starting_epoch: 0, ending_epoch: 6, frequency: 1}
  - {pruner: {instance_name: gradual}, starting_epoch: 0, ending_epoch: 6, frequency: 2}
  - {pruner: {instance_name: random}, epochs: [1, 3, 5]}
  - {extension: {instance_name: thinner}, epochs: [2, 4]}
  - {lr_scheduler: {instance_name: plateau}, starting_epoch: 0, ending_epoch: 6, frequency: 1}
"""
"""Remembers a deviation, draws, masks, thins twice in the middle, and watches a plateau."""


def run(folder: Path) -> dict[str, torch.Tensor]:
    """Train, from the checkpoint if there is one; return all that is left of it."""
    torch.manual_seed(0)
    model = TinyNetwork(3)
    engine = ScheduleEngine(
        model, parse_text(SCHEDULE), torch.zeros(1, 3, SIZE, SIZE), base_lr=SETTINGS.lr, num_epochs=SETTINGS.epochs
    )
    engine.prune_before_training()
    result = train(
        model,
        some_images(64, num_classes=3),
        some_images(32, num_classes=3, seed=1),
        SETTINGS,
        engine,
        normalize=Unchanged(),
        teacher=small_network(3, seed=7),
        checkpoint=folder / "checkpoint.safetensors",
    )
    curve = torch.tensor([[e.lr, e.training_loss, e.top1, e.loss] for e in result.epochs], dtype=torch.float64)
    kept = {f"kept {name}": torch.tensor(indices) for name, indices in engine.kept.items()}
    return {**model.state_dict(), **kept, "curve": curve}


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    save_file(run(folder), folder / "partial.safetensors")
    (folder / "partial.safetensors").rename(folder / "final.safetensors")
