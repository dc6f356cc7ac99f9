"""Validation images come from what the weights have not seen."""

from __future__ import annotations

from typing import Any

import pytest

from secateur.config import FromTest, Study, unseen_validation
from secateur.errors import StudyError
from tests.factories import make_study


def study(*, weights: str | None = "w.pt", seen: str | None = None, dataset: Any = "cifar10", **others: Any) -> Study:
    document = make_study(dataset=dataset, **others)
    return Study.model_validate({**document, "weights": weights, "weights_have_seen": seen})


@pytest.mark.parametrize("seen", ["other data", "train"])
@pytest.mark.parametrize("validation", [None, 5000])
def test_weights_that_have_not_seen_them_leave_the_validation_images_where_they_are(
    seen: str, validation: int | None
) -> None:
    asked = study(seen=seen, dataset={"name": "cifar10", "validation": validation})
    assert unseen_validation(asked) == (asked, None)


def test_a_network_that_is_trained_here_has_not_seen_them() -> None:
    asked = study(weights=None, dataset={"name": "cifar10", "validation": 5000})
    assert unseen_validation(asked) == (asked, None)


def test_weights_that_have_seen_all_of_train_are_validated_on_the_test_part() -> None:
    found, warning = unseen_validation(study(seen="train and validation"))
    assert found.dataset.validation == FromTest()
    assert warning is None
    with pytest.raises(StudyError, match=r"5000 images carved from the training part, but the weights have seen all"):
        unseen_validation(study(seen="train and validation", dataset={"name": "cifar10", "validation": 5000}))


@pytest.mark.parametrize("validation", [None, 5000])
def test_of_unknown_weights_one_is_warned_and_they_are_validated_on_the_test_part(validation: int | None) -> None:
    found, warning = unseen_validation(study(dataset={"name": "cifar10", "validation": validation}))
    assert found.dataset.validation == FromTest()
    assert warning is not None
    assert warning.startswith("Nobody says what the weights w.pt have seen. Validation images are taken from the test")
    assert "weights_have_seen: other data, train, or train and validation" in warning
    assert unseen_validation(found) == (found, None)  # written down, it is settled


def test_a_half_of_the_test_part_is_never_doubted() -> None:
    asked = study(dataset={"name": "cifar10", "validation": {"from": "test", "files": "odd"}})
    assert unseen_validation(asked) == (asked, None)


@pytest.mark.parametrize("seen", [None, "train and validation"])
def test_a_function_that_divides_its_images_itself_is_only_warned_of(seen: str | None) -> None:
    asked = study(seen=seen, dataset="python:my_data:splits")
    found, warning = unseen_validation(asked)
    assert found == asked
    assert warning is not None
    assert "python:my_data:splits divides its images itself" in warning
