"""What given weights have seen decides where validation images may come from: never from what they were trained on."""

from __future__ import annotations

from secateur.config.study import FromTest, Study
from secateur.errors import StudyError

_SAY_SO = "Say what they have seen with weights_have_seen: other data, train, or train and validation."


def unseen_validation(study: Study) -> tuple[Study, str | None]:
    """Take validation images from what neither the weights nor the retraining have seen.

    Weights that have seen all of the training part, and those of which nobody says what they have seen, are validated
    on half of the test part.

    Returns:
        The study with `dataset.validation` as it has to be, and a warning, if there is something to be warned of.

    Raises:
        StudyError: The study carves validation images from what the weights have seen.
    """
    seen, dataset = study.weights_have_seen, study.dataset
    if study.weights is None or isinstance(dataset.validation, FromTest) or seen in {"other data", "train"}:
        return study, None
    unknown = None if seen else f"Nobody says what the weights {study.weights} have seen."
    if dataset.name.startswith("python:"):
        where = f"{unknown or 'The weights have seen the validation images.'} {dataset.name} divides its images itself:"
        return study, f"{where} top1 on validation images may be too good. {_SAY_SO}"
    if seen and dataset.validation is not None:
        raise StudyError(
            f"dataset.validation: {dataset.validation} images carved from the training part, but the weights have seen"
            " all of it (weights_have_seen). Take them from the test part: {from: test, files: even}."
        )
    from_test = dataset.model_copy(update={"validation": FromTest()})
    warning = unknown and f"{unknown} Validation images are taken from the test part. {_SAY_SO}"
    return study.model_copy(update={"dataset": from_test}), warning
