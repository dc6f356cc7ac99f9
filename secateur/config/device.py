"""Device profiles: how a model is timed on one edge device."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from secateur import resources
from secateur.config.located import PartError, load_yaml, validate
from secateur.errors import StudyError, did_you_mean

_OF_A_SERVICE = ("url", "model", "token_variable", "tensors", "request_timeout_s", "max_difference")
_OF_A_DEVICE = ("device", "num_threads", "precision")


class DeviceProfile(BaseModel):
    """How one model is timed on one edge device, or on a remote service that infers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field("", description="The profile's name; by default its file's.")
    kind: Literal["openvino", "http"] = Field(
        "openvino", description="http: a service of the KServe v2 protocol, as Triton and OpenVINO Model Server speak."
    )
    device: str = Field("CPU", description="OpenVINO device name: CPU, GPU, NPU, MYRIAD.")
    url: str | None = Field(
        None, description="Of the service: http(s)://host:port, and a path if v2/ stands below one."
    )
    model: str = Field("{stem}", description="The model's name there; {stem}: the ONNX file's name without suffix.")
    token_variable: str | None = Field(
        None, description="Environment variable that holds the service's bearer token; the token itself stands nowhere."
    )
    tensors: Literal["binary", "json"] = Field("binary", description="How tensors travel; binary is an extension.")
    request_timeout_s: float = Field(10.0, gt=0, description="A service that does not answer for so long has failed.")
    max_difference: float = Field(
        0.05,
        gt=0,
        description="Between the service's outputs and the ONNX file's on this CPU, relative to the largest of them.",
    )
    interpreter: str | None = Field(
        None, description="The Python that has OpenVINO for this device, 3.8 or later; absent: this one."
    )
    environment: dict[str, str] = Field({}, description="Environment variables of the measuring process.")
    onnx_opset: int = Field(17, ge=11, le=18, description="Of exports; 11 to 13 for OpenVINO 2021.4.")
    num_threads: int | None = Field(None, ge=1, description="CPU threads; absent: the runtime chooses.")
    precision: Literal["f32", "bf16", "f16"] | None = Field(
        None,
        description="Inference precision; absent: the runtime chooses, and the report names it.",
    )
    num_warmups: int = Field(5, ge=0, description="Inferences before the first timed one, for each model.")
    min_rounds: int = Field(20, ge=5, description="Rounds measured at least, whatever interval and budget say.")
    num_processes: int = Field(
        5, ge=1, description="Fresh processes at least that share the budget, as compilations differ; best not 2."
    )
    max_duration_s: float = Field(3.0, gt=0, description="Time budget of one model.")
    target_half_width: float = Field(
        0.01,
        gt=0,
        description="Wanted half-width of the 95 % interval of the latency ratio, relative.",
    )
    exclusive: bool = Field(
        False,
        description="While it measures, what else of this user's runs on the host waits: training, other measurements.",
    )
    timeout_s: float = Field(120.0, gt=0, description="A runner that is silent for so long is killed.")
    mode: Literal["single", "stream"] = Field(
        "single", description="stream: besides the ratio, frames are sent at a fixed rate for max_duration_s."
    )
    frames_per_s: float | None = Field(None, gt=0, description="Rate at which a stream's frames arrive.")
    queue_length: int = Field(1, ge=1, description="Frames of a stream that may wait; one that finds them is dropped.")

    @property
    def target(self) -> str:
        """What is measured, in a word: the device's name, or the service's address."""
        return self.url or self.device

    @field_validator("url")
    @classmethod
    def _is_address(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if "@" in url:
            raise PartError((), "'url' holds credentials: put them into an environment variable (token_variable).")
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("expected http://host:port or https://host:port")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _fields_fit_together(self) -> Self:
        foreign = _OF_A_SERVICE if self.kind == "openvino" else _OF_A_DEVICE
        for name in foreign:
            if name in self.model_fields_set and getattr(self, name) != type(self).model_fields[name].default:
                raise PartError((name,), f"{name!r} means nothing to kind: {self.kind}. Remove it.")
        if self.kind == "http" and self.url is None:
            raise ValueError("kind: http needs the 'url' of the service")
        if (self.mode == "stream") != (self.frames_per_s is not None):
            raise ValueError("mode: stream and 'frames_per_s' belong together")
        return self


def load_device(name_or_path: str) -> DeviceProfile:
    """Load a profile by name (`infra/devices/`) or from a file.

    Raises:
        StudyError: There is no such profile, or it is wrong.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        profiles = resources.find("infra/devices")
        path = profiles / f"{name_or_path}.yaml"
        if not path.is_file():
            known = [p.stem for p in profiles.glob("*.yaml")]
            raise StudyError(
                f"device: there is no profile {name_or_path!r}.{did_you_mean(name_or_path, known)}"
                f" Name one of {', '.join(sorted(known))}, or the path of a YAML file."
            )
    profile = validate(DeviceProfile, load_yaml(path, StudyError), StudyError)
    return profile if profile.name else profile.model_copy(update={"name": path.stem})
