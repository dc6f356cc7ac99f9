"""What is descended on.

Shapes: N images, K classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor, nn

from secateur.training.settings import TrainingSettings, autocast


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """Cross entropy, smoothed or not; and how far the logits are from a teacher's (Hinton et al. 2015, sec. 2)."""

    settings: TrainingSettings
    teacher: nn.Module | None

    def __call__(self, inputs_NCHW: Tensor, logits_NK: Tensor, labels_N: Tensor) -> Tensor:
        """Return the mean loss.

        With a teacher `(1 - w) CE + w T^2 KL(softmax(teacher / T) || softmax(logits / T))`.
        """
        settings, logits_NK = self.settings, logits_NK.float()
        cross_entropy = F.cross_entropy(logits_NK, labels_N, label_smoothing=settings.label_smoothing)
        if self.teacher is None:
            return cross_entropy
        with torch.no_grad(), autocast(settings.device, settings.precision):
            teacher_logits_NK = self.teacher(inputs_NCHW).float()
        divergence = F.kl_div(
            F.log_softmax(logits_NK / settings.temperature, dim=1),
            F.log_softmax(teacher_logits_NK / settings.temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        weight = settings.distillation_weight
        return (1 - weight) * cross_entropy + weight * settings.temperature**2 * divergence
