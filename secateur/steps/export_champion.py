"""A champion as files for whoever uses it: ONNX, OpenVINO's IR, safetensors, and a model card."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from secateur import benchmark
from secateur.championship import Promotion
from secateur.config import DeviceProfile
from secateur.export import check_parity, input_shape
from secateur.report import render_model_card
from secateur.store import Store, get_object

_NUM_COMPARED = 2


def champion_files(store: Store, promotion: Promotion) -> dict[str, bytes]:
    """Return the files by name.

    The IR is made by the runner's OpenVINO, its weights in f32, and compared with the ONNX file on this CPU.

    Raises:
        ExportError: The IR computes something else.
        MeasurementError: OpenVINO is not installed here.
        StoreError: The store could not read.
    """
    compressed = promotion.record.compressed
    assert compressed is not None
    content = get_object(store, compressed.onnx)
    with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
        onnx_path, ir_path = Path(folder, "champion.onnx"), Path(folder, "champion.xml")
        onnx_path.write_bytes(content)
        benchmark.convert(onnx_path, ir_path)
        shape = (_NUM_COMPARED, *input_shape(content)[1:])
        images_NCHW = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        profile = DeviceProfile(precision="f32")
        check_parity(*(benchmark.predict(path, images_NCHW, profile) for path in (onnx_path, ir_path)))
        return {
            "champion.onnx": content,
            "champion.xml": ir_path.read_bytes(),
            "champion.bin": ir_path.with_suffix(".bin").read_bytes(),
            "champion.safetensors": get_object(store, compressed.checkpoint),
            "model-card.md": render_model_card(promotion).encode(),
        }
