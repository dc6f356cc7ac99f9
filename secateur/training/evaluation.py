"""How good a network is on a set of images.

Shapes: N images, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor, nn

from secateur import progress
from secateur.confusion import as_rows, calibration_error, confusion_matrix, sensitivity, specificity
from secateur.errors import InputError, TrainingError
from secateur.training.batches import Images, Normalization, fastest_memory_format, normalized
from secateur.training.outcomes import Evaluation
from secateur.training.processes import gathered, own_part
from secateur.training.settings import Device, Precision, autocast


def evaluate(
    model: nn.Module,
    image_set: Images,
    normalize: Normalization,
    *,
    batch_size: int = 128,
    device: Device = "cpu",
    precision: Precision = "f32",
) -> Evaluation:
    """Evaluate a network; processes that train together divide the images among them.

    Args:
        model: Maps N x 3 x H x W images to N x K logits; moved to `device`, left in the mode it came in.
        image_set: At least one image.
        normalize: What the network was trained with.
        batch_size: 128 is as fast as any: on a CPU more no longer fit its caches.
        device: Where to compute.
        precision: bf16 is faster where `fastest_precision` says so; top1 then moves by about 0.1 point.

    Returns:
        What it got right and wrong; see `Evaluation`.

    Raises:
        TrainingError: Some logit is NaN or infinite.
        InputError: There are labels that the network has no output for; or there is no such device.
    """
    check_device(device)
    logits_NK = _predict(model, image_set, normalize, batch_size, device, precision)
    num_images = len(logits_NK)
    num_broken = int((~logits_NK.isfinite()).any(dim=1).sum())
    if num_broken:
        raise TrainingError(
            f"The network's output is NaN or infinite for {num_broken} of {num_images} images. Its weights have"
            " diverged or are damaged: check where they come from, or train with a smaller lr."
        )
    labels_N = image_set.labels_N
    top5_N5 = logits_NK.sort(dim=1, descending=True, stable=True).indices[:, :5]
    confusion_KK = confusion_matrix(labels_N.numpy(), top5_N5[:, 0].numpy(), logits_NK.shape[1])
    is_hit_N5 = top5_N5 == labels_N.unsqueeze(1)
    confidence_N = logits_NK.double().softmax(dim=1).amax(dim=1)
    return Evaluation(
        top1=100 * int(is_hit_N5[:, 0].sum()) / num_images,
        top5=100 * int(is_hit_N5.sum()) / num_images,
        loss=F.cross_entropy(logits_NK.double(), labels_N).item(),
        num_images=num_images,
        num_predicted_classes=int((confusion_KK.sum(axis=0) > 0).sum()),
        sensitivity=sensitivity(confusion_KK),
        specificity=specificity(confusion_KK),
        calibration_error=100 * calibration_error(confidence_N.numpy(), is_hit_N5[:, 0].numpy()),
        confusion=as_rows(confusion_KK),
    )


def check_device(device: Device) -> None:
    """Check that a device is here.

    Raises:
        InputError: A GPU was asked for, and torch sees none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"A GPU was asked for, but torch {torch.__version__} sees none here. Check `nvidia-smi`,"
            " CUDA_VISIBLE_DEVICES and that torch was installed with CUDA; or train on the CPU."
        )


def _predict(
    model: nn.Module,
    image_set: Images,
    normalize: Normalization,
    batch_size: int,
    device: Device,
    precision: Precision,
) -> Tensor:
    """Return the N x K logits, float32, on the CPU."""
    part = own_part(len(image_set.labels_N))
    rows = torch.split(torch.arange(part.num_rows)[part.rows], batch_size)
    was_training = model.training
    model.to(device).eval()
    layout = fastest_memory_format(model, image_set, normalize, device)
    logits = []
    try:
        with progress.track("evaluate", total=len(rows)) as bar, torch.inference_mode(), autocast(device, precision):
            for batch_NHWC in image_set.batches(rows):
                inputs_NCHW = normalized(batch_NHWC.to(device), normalize).contiguous(memory_format=layout)
                logits.append(model(inputs_NCHW).float().cpu())
                bar.advance()
    finally:
        model.train(was_training)
    return gathered(torch.cat(logits), part)
