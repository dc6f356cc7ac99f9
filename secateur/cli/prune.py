"""`secateur prune`: one network, one schedule, no training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from secateur.cli.display import progress_on_stderr
from secateur.cli.out_folder import write_files
from secateur.cli.output import print_json, print_table, say
from secateur.cli.unpruned import load_both
from secateur.config import DeviceProfile, load_device
from secateur.export import export_onnx
from secateur.models import default_input_size
from secateur.pruning import ScheduleEngine
from secateur.steps.gate import OperationGate
from secateur.thinning import Network, all_filters, count_macs, count_params, save_network


def prune(
    model_name: str,
    schedule_path: Path,
    out: Path,
    weights: Path | None,
    num_classes: int | None,
    input_size: int | None,
    device: str | None,
    *,
    skip_unprunable: bool,
    as_json: bool,
) -> None:
    """Prune, thin and export a network; print what is left of it.

    Raises:
        InputError: The schedule, the model or the weights are wrong, or DIR cannot be written.
        ThinningError: What the schedule prunes cannot be removed.
        UnsupportedError: The device lacks operations of the network.
    """
    profile = load_device(device) if device is not None else DeviceProfile()
    model, num_classes, schedule = load_both(model_name, schedule_path, weights, num_classes)
    before = all_filters(model)
    input_size = input_size or default_input_size(model_name)
    example_NCHW = torch.zeros(1, 3, input_size, input_size)
    engine = ScheduleEngine(model, schedule, example_NCHW, base_lr=0.1, num_epochs=0, skip_unprunable=skip_unprunable)
    engine.prune_before_training()
    network = Network(
        module=model.eval(),
        arch=model_name,
        num_classes=num_classes,
        kept=engine.kept,
        removed_blocks=engine.removed_blocks,
    )
    content = export_onnx(model, input_size, opset=profile.onnx_opset)
    if device is not None:
        with progress_on_stderr():
            OperationGate(profile)(content)
    files = {"model.onnx": content, "model.safetensors": save_network(network)}
    write_files(out, files)
    document: dict[str, Any] = {
        "layers": {n: {"num_filters": len(before[n]), "kept": list(kept)} for n, kept in engine.kept.items()},
        "removed_blocks": list(engine.removed_blocks),
        "skipped": engine.skipped,
        "num_params": count_params(model),
        "macs": count_macs(model, example_NCHW),
        "onnx": str(out / "model.onnx"),
        "checkpoint": str(out / "model.safetensors"),
    }
    if as_json:
        print_json(document)
        return
    for name, reason in engine.skipped.items():
        say(f"{name} was left alone: {reason}.")
    if weights is None:
        say("No --weights were given: the weights are random.")
    rows = [(n, layer["num_filters"], len(layer["kept"])) for n, layer in document["layers"].items()]
    print_table(f"{model_name} after {schedule_path.name}", ("convolution", "filters", "kept"), rows)
    say(f"{document['num_params']:,} parameters, {document['macs']:,} MACs")
    say(f"{document['onnx']}\n{document['checkpoint']}")
