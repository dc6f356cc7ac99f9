from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import nn

from secateur.errors import InputError
from secateur.training import NoCallbacks, TrainingSettings, train
from secateur.training.losses import Criterion
from tests.training.networks import Unchanged, small_network, some_images

IMAGES_NCHW = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LOGITS_NK = torch.randn(4, 10, generator=torch.Generator().manual_seed(1))
LABELS_N = torch.tensor([0, 3, 3, 9])


def test_the_loss_is_cross_entropy() -> None:
    criterion = Criterion(settings=TrainingSettings(epochs=1, lr=0.1), teacher=None)
    assert torch.equal(criterion(IMAGES_NCHW, LOGITS_NK, LABELS_N), F.cross_entropy(LOGITS_NK, LABELS_N))


def test_smoothed_labels_give_every_class_a_share() -> None:
    criterion = Criterion(settings=TrainingSettings(epochs=1, lr=0.1, label_smoothing=0.2), teacher=None)
    log_p = LOGITS_NK.log_softmax(1)
    expected = -(0.8 * log_p[range(4), LABELS_N] + 0.2 * log_p.mean(1)).mean()
    torch.testing.assert_close(criterion(IMAGES_NCHW, LOGITS_NK, LABELS_N), expected)


def test_distillation_is_hintons_formula() -> None:
    teacher = small_network(seed=1).eval()
    settings = TrainingSettings(epochs=1, lr=0.1, distillation_weight=0.7, temperature=4.0)
    with torch.no_grad():
        targets_NK = (teacher(IMAGES_NCHW) / 4).softmax(1)
    divergence = (targets_NK * (targets_NK.log() - (LOGITS_NK / 4).log_softmax(1))).sum(1).mean()
    expected = 0.3 * F.cross_entropy(LOGITS_NK, LABELS_N) + 0.7 * 16 * divergence
    loss = Criterion(settings=settings, teacher=teacher)(IMAGES_NCHW, LOGITS_NK, LABELS_N)
    torch.testing.assert_close(loss, expected)


def fit(teacher: nn.Module | None, weight: float) -> float:
    settings = TrainingSettings(epochs=1, lr=0.05, batch_size=16, distillation_weight=weight)
    images = some_images(32)
    result = train(small_network(), images, images, settings, NoCallbacks(), normalize=Unchanged(), teacher=teacher)
    return result.epochs[0].training_loss


def test_a_network_that_is_its_own_teacher_has_nothing_to_learn_from_it() -> None:
    assert fit(small_network(), 1.0) < fit(small_network(seed=5), 1.0)


@pytest.mark.parametrize(("teacher", "weight", "what"), [(None, 0.5, "no"), (small_network(), 0.0, "a")])
def test_a_teacher_and_a_weight_go_together(teacher: nn.Module | None, weight: float, what: str) -> None:
    with pytest.raises(InputError, match=f"distillation_weight is {weight:g}, and there is {what} teacher"):
        fit(teacher, weight)
