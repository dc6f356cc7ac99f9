"""Retrain a contender with its fresh seed, examine it, and publish a champion's figure. Runs where the GPU is."""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from secateur.candidate import Workshop
from secateur.championship import Examination
from secateur.config import Normalize
from secateur.datasets import halve_test
from secateur.export import parity
from secateur.results import UNPRUNED, TestScores, TrialRecord
from secateur.retraining import scores_of
from secateur.steps.compress import compress
from secateur.steps.record import now
from secateur.store import StudyFiles, get_object, put_object
from secateur.thinning import rebuild
from secateur.training import evaluate
from secateur.training.batches import normalized
from secateur.turns import working

_NUM_COMPARED = 8
"""Images on which the ONNX file is compared with the weights: its reference evaluator takes a second for each."""


@working()
def retrain(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TrialRecord:
    """Make a contender, if it is not there, and compare what was stored of it; the unpruned network is only compared.

    Args:
        workshop: Of the study.
        files: Of the study.
        label: ``12-1``, or ``unpruned``.
        num_threads: CPU threads that torch may use in this thread.

    Raises:
        InputError: The study is wrong: its dataset, its weights.
        StoreError: The store could not read or write.
    """
    record = files.read_record(label)
    if label != UNPRUNED:
        record = compress(workshop, files, label, num_threads)
    if record.compressed is not None and files.read_examination(label) is None:
        torch.set_num_threads(num_threads)
        normalize = workshop.splits.normalize
        judging, _ = halve_test(workshop.splits)
        (images_NHWC,) = judging.batches([torch.arange(len(judging))])
        module = rebuild(get_object(files.store, record.compressed.checkpoint)).module
        content = get_object(files.store, record.compressed.onnx)
        compared_NCHW = normalized(images_NHWC[:_NUM_COMPARED], normalize)
        images = put_object(files.store, _as_npz(images_NHWC, judging.labels_N, normalize))
        difference = parity(module, content, compared_NCHW)
        files.write_examination(Examination(label=label, images=images, parity=difference))
    return record


@working()
def publish(workshop: Workshop, files: StudyFiles, label: str, num_threads: int) -> TestScores:
    """Evaluate a network that is to be champion (or the unpruned one) on what is left of the test part; once."""
    torch.set_num_threads(num_threads)
    examination, record = files.read_examination(label), files.read_record(label)
    assert examination is not None
    assert record.compressed is not None
    if examination.published is None:
        _, images = halve_test(workshop.splits)
        module = rebuild(get_object(files.store, record.compressed.checkpoint)).module
        evaluation = evaluate(module, images, workshop.splits.normalize, device=workshop.device)
        scores = TestScores(**scores_of(evaluation).model_dump(), accessed_at=(now(),))
        examination = examination.model_copy(update={"published": scores})
        files.write_examination(examination)
    assert examination.published is not None
    return examination.published


def _as_npz(images_NHWC: Tensor, labels_N: Tensor, normalize: Normalize) -> bytes:
    """Return what an edge host, which has neither torch nor the dataset, needs of some images."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        images_NHWC=images_NHWC.numpy(),
        labels_N=labels_N.numpy(),
        mean_C=np.array(normalize.mean, np.float32),
        std_C=np.array(normalize.std, np.float32),
    )
    return buffer.getvalue()
