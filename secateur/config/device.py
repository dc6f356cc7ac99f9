"""Device profiles: how a model is timed on one edge device."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from secateur import resources
from secateur.config.located import load_yaml, validate
from secateur.errors import StudyError, did_you_mean


class DeviceProfile(BaseModel):
    """How one model is timed on one edge device."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field("", description="The profile's name; by default its file's.")
    device: str = Field("CPU", description="OpenVINO device name: CPU, GPU, NPU, MYRIAD.")
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
