"""`secateur inspect`: the layers of a model, of a weights file or of an ONNX file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from secateur.analysis.layers import LayerFacts, Totals, layers_of_module, layers_of_state, total
from secateur.analysis.onnx_layers import layers_of_onnx
from secateur.cli.output import print_json, print_table, say
from secateur.errors import InputError, ModelError, did_you_mean
from secateur.models import create_model, default_input_size, default_num_classes, load_state
from secateur.report.weights import render_weights_png
from secateur.thinning import rebuild

_WEIGHTS = (".safetensors", ".npz", ".pt", ".pth", ".th", ".tar")


def inspect(
    network: str,
    reference: str | None,
    png: Path | None,
    num_classes: int | None,
    input_size: int | None,
    *,
    as_json: bool,
) -> None:
    """Print a table of layers and their totals; draw the weights.

    Args:
        network: A model's name, a file saved by secateur, a state_dict, or an ONNX file.
        reference: The same, of the network before it was pruned. By default what a file saved by secateur names.
        png: Where the picture goes, if one is wanted.
        num_classes: Of a model; None: as usual for it.
        input_size: Of its images, in pixels; None: as usual for it.
        as_json: Print one document instead.

    Raises:
        InputError: There is no such model or file, or it cannot be read.
    """
    layers, ancestor = _layers(network, num_classes, input_size)
    before = _layers(reference, num_classes, input_size)[0] if reference is not None else ancestor
    if png is not None:
        weights, dense = ({layer.name: layer.weight for layer in facts} for facts in (layers, before or ()))
        _write(png, _draw(network, weights, dense))
    totals, old = total(layers), None if before is None else total(before)
    if as_json:
        document = {
            "network": network,
            "layers": [_fields(layer) for layer in layers],
            "total": dataclasses.asdict(totals),
        }
        print_json({**document, "reference": None if old is None else dataclasses.asdict(old)})
        return
    columns = ("layer", "type", "shape", "params", "MACs", "sparsity", "bytes", "bytes in CSR")
    print_table(network, columns, [_cells(layer) for layer in layers])
    say(_sentence(totals))
    if old is not None:
        say(f"Before: {_sentence(old)}")
    if png is not None:
        say(str(png))


def _layers(
    network: str, num_classes: int | None, input_size: int | None
) -> tuple[tuple[LayerFacts, ...], tuple[LayerFacts, ...] | None]:
    """Return a network's layers, and those of the one it was thinned from, if it names that."""
    path = Path(network)
    if path.suffix not in {".onnx", *_WEIGHTS} or network.startswith("python:"):
        return _of_model(network, num_classes, input_size), None
    if path.suffix in _WEIGHTS:
        state = load_state(path)
        try:
            saved = rebuild(path.read_bytes()) if path.suffix == ".safetensors" else None
        except ModelError:
            saved = None  # somebody else's tensors
        if saved is not None:
            dense = _of_model(saved.arch, saved.num_classes, input_size)
            return layers_of_module(saved.module, _example(saved.arch, input_size)), dense
        layers = layers_of_state(state)
    else:
        layers = layers_of_onnx(_read(path), network)
    if not layers:
        raise InputError(f"{network}: there are no layers with weights in it.")
    return layers, None


def _of_model(name: str, num_classes: int | None, input_size: int | None) -> tuple[LayerFacts, ...]:
    module = create_model(name, num_classes or default_num_classes(name))
    return layers_of_module(module, _example(name, input_size))


def _example(model: str, input_size: int | None) -> torch.Tensor:
    size = input_size or default_input_size(model)
    return torch.zeros(1, 3, size, size)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        siblings = [str(sibling) for sibling in path.parent.glob("*.onnx")]
        raise InputError(f"{path}: cannot be read: {exc.strerror}.{did_you_mean(str(path), siblings)}") from exc


def _draw(network: str, weights: dict[str, Any], dense: dict[str, Any]) -> bytes:
    if not any(weight.ndim > 1 for weight in weights.values()):
        raise InputError(f"{network}: none of its weights has two dimensions, so there is nothing to draw.")
    return render_weights_png(weights, dense or None)


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as exc:
        raise InputError(f"--png {path}: cannot be written: {exc}.") from exc


def _fields(layer: LayerFacts) -> dict[str, Any]:
    return {
        "name": layer.name,
        "type": layer.type,
        "shape": list(layer.weight.shape),
        "num_params": layer.num_params,
        "macs": layer.macs,
        "sparsity": layer.sparsity,
        "dense_bytes": layer.dense_bytes,
        "csr_bytes": layer.csr_bytes,
    }


def _cells(layer: LayerFacts) -> Sequence[str]:
    return (
        layer.name,
        layer.type or "-",
        " x ".join(map(str, layer.weight.shape)),
        f"{layer.num_params:,}",
        _count(layer.macs),
        f"{layer.sparsity:.1%}",
        f"{layer.dense_bytes:,}",
        _count(layer.csr_bytes),
    )


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _sentence(totals: Totals) -> str:
    macs = "" if totals.macs is None else f" {totals.macs:,} MACs,"
    return (
        f"{totals.num_params:,} parameters,{macs} {totals.sparsity:.1%} of the weights are zero;"
        f" {totals.dense_bytes:,} bytes, {totals.csr_bytes:,} in CSR."
    )
