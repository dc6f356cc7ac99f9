"""Write a network as ONNX, and make sure that it still computes the same."""

from __future__ import annotations

import hashlib
import io
import threading
import warnings

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from torch import nn

from secateur.errors import ExportError

_EXPORTER = threading.Lock()
"""torch's exporter keeps global state: candidates that are trained side by side take turns."""

TOLERANCE = 1e-4
"""Allowed max |torch - onnx|, relative to max |torch|."""


def export_onnx(model: nn.Module, input_size: int, *, opset: int = 17, num_checks: int = 2, seed: int = 0) -> bytes:
    """Export a network for single images and check it against PyTorch on random inputs.

    Args:
        model: Takes `1 x 3 x input_size x input_size`; its mode is kept.
        input_size: Height and width in pixels.
        opset: ONNX opset; OpenVINO reads 17 since 2022, and 11 to 13 in 2021.4.
        num_checks: Random inputs to compare on, with ONNX's own reference evaluator; 0: not at all.
        seed: Of the random inputs.

    Returns:
        The ONNX file; equal networks give equal bytes.

    Raises:
        ExportError: The exporter failed, or an output differs by more than 1e-4 of its largest value.
    """
    was_training = model.training
    model.eval()
    try:
        images = torch.randn(num_checks, 1, 3, input_size, input_size, generator=torch.Generator().manual_seed(seed))
        device = next(model.parameters()).device
        content = _export(model, torch.zeros(1, 3, input_size, input_size, device=device), opset)
        with torch.inference_mode():
            expected = [model(image.to(device)).float().cpu().numpy() for image in images]
    finally:
        model.train(was_training)
    session = ReferenceEvaluator(onnx.load_model_from_string(content))
    for image, wanted in zip(images, expected, strict=True):
        check_parity(wanted, _run(session, image))
    return content


def parity(model: nn.Module, content: bytes, images_NCHW: torch.Tensor) -> float:
    """Return max |torch - onnx| / max |torch| over images, one by one; infinite where an output is not finite.

    Args:
        model: On the CPU, in eval mode.
        content: The ONNX file that is said to be the same.
        images_NCHW: Normalised, at least one.

    Raises:
        ExportError: The ONNX file cannot be run.
    """
    session = ReferenceEvaluator(onnx.load_model_from_string(content))
    with torch.inference_mode():
        pairs = [(model(image).float().numpy(), _run(session, image)) for image in torch.split(images_NCHW, 1)]
    difference = max(float(np.abs(wanted - got).max()) for wanted, got in pairs)
    largest = max(float(np.abs(wanted).max()) for wanted, _ in pairs)
    return difference / max(largest, 1e-6) if np.isfinite(difference) else float("inf")


def _run(session: ReferenceEvaluator, image_NCHW: torch.Tensor) -> npt.NDArray[np.float32]:
    try:
        return np.asarray(next(iter(session.run(None, {"input": image_NCHW.numpy()}))))
    except Exception as exc:
        raise ExportError(f"The ONNX file cannot be checked: {type(exc).__name__}: {exc}.") from exc


def _export(model: nn.Module, example_NCHW: torch.Tensor, opset: int) -> bytes:
    buffer = io.BytesIO()
    with _EXPORTER, warnings.catch_warnings():
        # The older exporter: twenty times as fast as the new one, reproducible, free of machine paths, and the one
        # whose files OpenVINO 2021 reads.
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        warnings.filterwarnings("ignore", module="torch", message=".*trac.*")
        try:
            torch.onnx.export(
                model,
                (example_NCHW,),
                buffer,  # type: ignore[arg-type]  # the older exporter takes streams too
                dynamo=False,
                opset_version=opset,
                input_names=["input"],
                output_names=["logits"],
            )
        except Exception as exc:
            raise ExportError(f"The network cannot be exported to ONNX: {type(exc).__name__}: {exc}.") from exc
    return _without_idle_ceilings(buffer.getvalue())


def _without_idle_ceilings(content: bytes) -> bytes:
    """Take ``ceil_mode`` from poolings with stride 1, where it says nothing (GoogLeNet's).

    ONNX's reference evaluator gets the size wrong with it.
    """
    model = onnx.load_model_from_string(content)
    idle = [
        attribute
        for node in model.graph.node
        if node.op_type == "MaxPool" and all(s == 1 for a in node.attribute if a.name == "strides" for s in a.ints)
        for attribute in node.attribute
        if attribute.name == "ceil_mode" and attribute.i
    ]
    for attribute in idle:
        attribute.i = 0
    return bytes(model.SerializeToString(deterministic=True)) if idle else content


def check_parity(expected: npt.NDArray[np.float32], got: npt.NDArray[np.float32]) -> None:
    """Compare two outputs of one input.

    Raises:
        ExportError: They differ by more than 1e-4 of the largest expected value, or one is not finite.
    """
    tolerance = TOLERANCE * max(float(np.abs(expected).max()), 1e-6)
    difference = float(np.abs(expected - got).max()) if expected.shape == got.shape else float("inf")
    if not difference <= tolerance:  # NaN fails too
        raise ExportError(
            f"Output changed in export: max |torch - onnx| = {difference:.3g}, tolerance {tolerance:.3g}."
        )


def input_shape(content: bytes) -> tuple[int, ...]:
    """Return the shape of an ONNX file's input, `1 x 3 x H x W` of those that are exported here."""
    (value,) = onnx.load_model_from_string(content).graph.input
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)


def architecture_signature(content: bytes) -> str:
    """Return a digest of an ONNX file's operations, attributes and shapes: of all but its weights."""
    graph = onnx.load_model_from_string(content).graph
    digest = hashlib.sha256()
    for value in (*graph.input, *graph.output):
        digest.update(value.type.SerializeToString(deterministic=True))
    for tensor in graph.initializer:
        digest.update(f"{tensor.name}:{tensor.data_type}:{list(tensor.dims)};".encode())
    for node in graph.node:
        digest.update(f"{node.op_type}:{list(node.input)}:{list(node.output)};".encode())
        for attribute in node.attribute:
            digest.update(attribute.SerializeToString(deterministic=True))
    return digest.hexdigest()


def operations_signature(content: bytes) -> str:
    """Return a digest of the kinds of operations in an ONNX file: types and settings, whatever their sizes."""
    model = onnx.load_model_from_string(content)
    kinds = {_kind(node) for node in model.graph.node}
    opsets = {f"{opset.domain}:{opset.version}".encode() for opset in model.opset_import}
    return hashlib.sha256(b"\n".join(sorted(kinds | opsets))).hexdigest()


def _kind(node: onnx.NodeProto) -> bytes:
    settings = sorted(a.SerializeToString(deterministic=True) for a in node.attribute if not a.HasField("t"))
    return b";".join([f"{node.domain}:{node.op_type}".encode(), *settings])
