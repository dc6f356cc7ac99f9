from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from secateur.datasets import ImageSet
from secateur.errors import InputError, TrainingError
from secateur.retraining import scores_of
from secateur.training import NoCallbacks, TrainingSettings, evaluate, train
from tests.training.networks import FixedLogits, Unchanged, numbered_images, small_network, some_images


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[float]], list[int]]:
    num_classes, num_images = draw(st.integers(2, 8)), draw(st.integers(1, 12))
    logit = st.integers(-3, 3).map(float)  # few values: ties are common
    row = st.lists(logit, min_size=num_classes, max_size=num_classes)
    labels = st.lists(st.integers(0, num_classes - 1), min_size=num_images, max_size=num_images)
    return draw(st.lists(row, min_size=num_images, max_size=num_images)), draw(labels)


@given(table=tables())
def test_scores_are_what_counting_by_hand_gives(table: tuple[list[list[float]], list[int]]) -> None:
    logits, labels = table
    scores = evaluate(FixedLogits(logits), numbered_images(labels), Unchanged(), batch_size=5)

    ranked = [sorted(range(len(row)), key=lambda k: (-row[k], k)) for row in logits]
    hits = [order.index(label) for order, label in zip(ranked, labels, strict=True)]
    losses = [math.log(sum(map(math.exp, row))) - row[label] for row, label in zip(logits, labels, strict=True)]
    assert scores.top1 == pytest.approx(100 * sum(hit < 1 for hit in hits) / len(hits))
    assert scores.top5 == pytest.approx(100 * sum(hit < 5 for hit in hits) / len(hits))
    assert scores.loss == pytest.approx(sum(losses) / len(losses), rel=1e-5, abs=1e-6)
    assert scores.num_images == len(labels)
    assert scores.num_predicted_classes == len({order[0] for order in ranked})
    assert scores.top1 <= scores.top5
    if len(logits[0]) <= 5:
        assert scores.top5 == 100


@given(table=tables(), data=st.data())
def test_the_order_of_images_does_not_matter(table: tuple[list[list[float]], list[int]], data: st.DataObject) -> None:
    logits, labels = table
    order = data.draw(st.permutations(range(len(labels))))
    images = numbered_images(labels)
    permuted = ImageSet(images_NHWC=images.images_NHWC[order], labels_N=images.labels_N[order])
    model = FixedLogits(logits)
    scores, again = (evaluate(model, part, Unchanged(), batch_size=4) for part in (images, permuted))
    assert again.loss == pytest.approx(scores.loss)
    assert again.calibration_error == pytest.approx(scores.calibration_error)
    assert replace(again, loss=scores.loss, calibration_error=scores.calibration_error) == scores


def test_a_network_that_always_says_the_same_can_be_told() -> None:
    model = small_network()
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    scores = evaluate(model, some_images(40), Unchanged())
    assert scores.num_predicted_classes == 1
    assert scores.top1 == 100 * (some_images(40).labels_N == 0).float().mean()


def test_normalisation_is_applied() -> None:
    class Mean(nn.Module):
        def forward(self, images_NCHW: Tensor) -> Tensor:
            assert images_NCHW.amax(dim=(0, 2, 3)).tolist() == pytest.approx([0.5 / 0.5, 0.75 / 0.25, 1.0 / 2.0])
            return images_NCHW.mean(dim=(2, 3))

    white = ImageSet(images_NHWC=torch.full((2, 4, 4, 3), 255, dtype=torch.uint8), labels_N=torch.tensor([1, 1]))
    assert evaluate(Mean(), white, Unchanged(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0))).top1 == 100


def test_batch_size_and_precision_hardly_matter() -> None:
    model, images = small_network(), some_images(150)
    scores = evaluate(model, images, Unchanged())
    assert evaluate(model, images, Unchanged(), batch_size=7).loss == pytest.approx(scores.loss, rel=1e-5)
    assert evaluate(model, images, Unchanged(), precision="bf16").loss == pytest.approx(scores.loss, rel=0.02)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_network_is_left_as_it_was(is_training: bool) -> None:
    model = small_network().train(is_training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, some_images(20), Unchanged())
    assert model.training is is_training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_that_flattens_with_view_is_fed_contiguous_images() -> None:
    class Viewing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.head = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 64, 10)

        def forward(self, images_NCHW: Tensor) -> Tensor:
            features = self.convolution(images_NCHW)
            logits: Tensor = self.head(features.view(len(features), -1))
            return logits

    assert evaluate(Viewing(), some_images(10), Unchanged()).num_images == 10


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_no_numbers_are_reported(value: float) -> None:
    model = FixedLogits([[0.0, 1.0], [value, 0.0], [1.0, 0.0]])
    with pytest.raises(TrainingError, match="NaN or infinite for 1 of 3 images"):
        evaluate(model, numbered_images([0, 1, 0]), Unchanged())


@given(table=tables())
def test_each_class_is_told_as_counting_by_hand_gives(table: tuple[list[list[float]], list[int]]) -> None:
    logits, labels = table
    scores = evaluate(FixedLogits(logits), numbered_images(labels), Unchanged(), batch_size=5)
    said = [row.index(max(row)) for row in logits]
    for k, (found, spared) in enumerate(zip(scores.sensitivity, scores.specificity, strict=True)):
        own = [guess == k for guess, label in zip(said, labels, strict=True) if label == k]
        others = [guess != k for guess, label in zip(said, labels, strict=True) if label != k]
        assert found == (pytest.approx(sum(own) / len(own)) if own else None)
        assert spared == (pytest.approx(sum(others) / len(others)) if others else None)
    assert sum(map(sum, scores.confusion)) == len(labels)
    assert scores_of(scores).metrics["min_class_sensitivity"] == 100 * min(
        s for s in scores.sensitivity if s is not None
    )
    assert 0 <= scores.calibration_error <= 100


def test_confidence_that_is_not_deserved_is_an_error_of_calibration() -> None:
    sure = FixedLogits([[100.0, 0.0]] * 4)
    assert evaluate(sure, numbered_images([0, 0, 0, 1]), Unchanged()).calibration_error == pytest.approx(25)
    unsure = FixedLogits([[0.0, 0.0]] * 4)
    assert evaluate(unsure, numbered_images([0, 0, 1, 1]), Unchanged()).calibration_error == pytest.approx(0)


def test_another_datasets_labels_are_refused() -> None:
    with pytest.raises(InputError, match="The network has 2 outputs, but the dataset a class 2"):
        evaluate(FixedLogits([[0.0, 1.0]]), numbered_images([2]), Unchanged())


def test_a_gpu_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"A GPU was asked for, but torch .* sees none here\. Check `nvidia-smi`"):
        evaluate(small_network(), some_images(2), Unchanged(), device="cuda")
    with pytest.raises(InputError, match="A GPU was asked for"):
        train(
            small_network(),
            some_images(2),
            some_images(2),
            TrainingSettings(epochs=1, lr=0.1, device="cuda"),
            NoCallbacks(),
            normalize=Unchanged(),
        )
