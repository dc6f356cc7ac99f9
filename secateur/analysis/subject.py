"""What is analysed: a model, its weights and its images, as the study that shall come of it names them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secateur import progress
from secateur.config import Study, unseen_validation
from secateur.config.located import Located, Location
from secateur.config.study import complete_study
from secateur.preflight import check_ingredients

_PENDING: Mapping[str, Any] = {
    "schedule": {"version": 1, "policies": []},
    "search": {
        "parameters": {"pending.desired_sparsity": {"min": 0.0, "max": 0.9}},
        "objectives": {"latency_ratio": "minimize", "top1": "maximize"},
        "constraints": ["top1 >= baseline - 1.0"],
    },
    "training": {"epochs": 3, "lr": 0.02, "batch_size": 32},
}
"""A study before anything is known of its network: its schedule prunes nothing, its parameters come from the groups."""

_PLACES: Mapping[Location, str] = {
    ("model",): "MODEL",
    ("dataset",): "--dataset",
    ("weights",): "--weights",
    ("device",): "--device",
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to be analysed, in a study that has no schedule yet."""

    study: Study
    document: Mapping[str, Any]
    """The same as the user gave it: without the defaults."""
    is_measured: bool
    """A device was named."""

    def study_document(self) -> dict[str, Any]:
        """Return the study as it can stand in any folder: without defaults, its paths absolute."""
        document = dict(self.document)
        document["dataset"] = self.study.dataset.model_dump(mode="json", by_alias=True, exclude_unset=True)
        if self.study.weights is not None:
            document["weights"] = str(self.study.weights.absolute())
        if str(document.get("device")).endswith((".yaml", ".yml")):
            document["device"] = str(Path(document["device"]).expanduser().absolute())
        return document


def read_subject(
    model: str, dataset: str, weights: Path | None, device: str | None, overrides: Sequence[str] = ()
) -> Subject:
    """Take what a user says of a network, and check all of it before anything is computed.

    Args:
        model: As in a study.
        dataset: Its name, as in a study.
        weights: Absent: the network is trained first, as a study's baseline is.
        device: A device profile's name or file; absent: latency is not measured.
        overrides: ``key=value`` each: further fields of a study, such as ``dataset.input_size=96``.

    Raises:
        InputError: With every problem.
    """
    fields = {"name": study_name(model), "model": model, "dataset": {"name": _absolute_folder(dataset)}}
    fields |= {"weights": str(weights)} if weights else {}
    fields |= {"device": device} if device else {}
    value = {**fields, **{key: _copied(part) for key, part in _PENDING.items()}}
    document = Located(value=value, source="command line", places=dict(_PLACES))
    study, warning = unseen_validation(complete_study(document, overrides, Path.cwd()))
    if warning:
        progress.message(warning)
    is_measured = "device" in document.value
    check_ingredients(study, document, is_device_here=is_measured)
    return Subject(study=study, document=document.value, is_measured=is_measured)


def study_name(model: str) -> str:
    """Return a name that a study of `model` can have: ``torchvision:mobilenet_v2`` becomes ``mobilenet_v2``."""
    return re.sub(r"[^a-z0-9._-]+", "-", model.rpartition(":")[2].lower()).strip("-._") or "network"


def _absolute_folder(dataset: str) -> str:
    kind, _, folder = dataset.partition(":")
    return f"{kind}:{Path(folder).expanduser().absolute()}" if kind == "imagefolder" and folder else dataset


def _copied(part: Any) -> Any:
    return {key: _copied(value) for key, value in part.items()} if isinstance(part, dict) else part
