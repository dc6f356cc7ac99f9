"""Judge contenders on the device itself: latency, and what it makes of unseen images. Needs OpenVINO, but no torch.

Shapes: N images, H height, W width, C channels, K classes.
"""

from __future__ import annotations

import io
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from secateur import benchmark
from secateur.championship import Examination
from secateur.config import DeviceProfile
from secateur.errors import StudyError
from secateur.results import UNPRUNED, LatencyReport, TrialRecord
from secateur.steps.measure_afresh import measure_afresh
from secateur.steps.record import measured, not_measured
from secateur.store import Store, StudyFiles, get_object

_CHUNK_BYTES = 1 << 28
"""Of images as floats: what is inferred at once."""


def judge(files: StudyFiles, profile: DeviceProfile, labels: Sequence[str], *, seed: int) -> list[TrialRecord]:
    """Measure contenders that were retrained, and have the device classify the second validation part; write both down.

    A network that the device cannot run fails alone.

    Args:
        files: Of the study.
        profile: The study's: its precision counts.
        labels: Contenders, and ``unpruned``, which is not measured but classifies, too.
        seed: Of the measurement.

    Raises:
        StudyError: There is no such device on this host.
        MeasurementError: The runner failed.
        StoreError: The store could not read or write.
    """
    records = [files.read_record(label) for label in labels]
    _measure(files, profile, [record for record in records if record.state == "compressed"], seed)
    for label in labels:
        examination = files.read_examination(label)
        record = files.read_record(label)
        if examination is not None and examination.hits is None and record.state != "failed":
            _classify(files, profile, record, examination)
    return [files.read_record(label) for label in labels]


def _measure(files: StudyFiles, profile: DeviceProfile, records: Sequence[TrialRecord], seed: int) -> None:
    networks = {record.label: record.compressed for record in records if record.compressed is not None}
    if not networks:
        return
    started = time.perf_counter()
    reference = files.read_record(UNPRUNED).compressed
    if reference is None:
        raise StudyError(f"study {files.name!r}: there is no unpruned network to compare with.")
    outcomes = measure_afresh(files.store, profile, reference, networks, seed=seed)
    seconds = (time.perf_counter() - started) / len(records)
    for record in records:
        outcome = outcomes[record.label]
        if isinstance(outcome, LatencyReport):
            files.write_record(measured(record, outcome, seconds))
        else:
            files.write_record(not_measured(record, outcome, seconds))


def _classify(files: StudyFiles, profile: DeviceProfile, record: TrialRecord, examination: Examination) -> None:
    assert record.compressed is not None
    images = _Images.read(files.store, examination.images)
    chunk = max(1, _CHUNK_BYTES // (4 * images.images_NHWC[0].size))
    with files.store.local_copy(record.compressed.onnx, suffix=".onnx") as path:
        logits_NK = np.concatenate(
            [
                benchmark.predict(path, images.normalised_NCHW(start, start + chunk), profile)
                for start in range(0, len(images.labels_N), chunk)
            ]
        )
    # Of equal logits, the class with the lower number comes first, as everywhere here.
    is_hit_N = logits_NK.argmax(axis=1) == images.labels_N
    hits = "".join("1" if is_hit else "0" for is_hit in is_hit_N)
    files.write_examination(examination.model_copy(update={"hits": hits}))


@dataclass(frozen=True)
class _Images:
    images_NHWC: npt.NDArray[np.uint8]
    labels_N: npt.NDArray[np.int64]
    mean_C: npt.NDArray[np.float32]
    std_C: npt.NDArray[np.float32]

    @classmethod
    def read(cls, store: Store, key: str) -> _Images:
        with np.load(io.BytesIO(get_object(store, key)), allow_pickle=False) as arrays:
            return cls(**arrays)

    def normalised_NCHW(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        values_NHWC = (self.images_NHWC[start:stop].astype(np.float32) / 255 - self.mean_C) / self.std_C
        return np.ascontiguousarray(values_NHWC.astype(np.float32, copy=False).transpose(0, 3, 1, 2))
