"""Has the device what a network needs? Asked before retraining is paid."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

from secateur import benchmark, progress
from secateur.config import DeviceProfile
from secateur.errors import InputError, MeasurementError, StudyError, UnsupportedError
from secateur.export import operations_signature

_NUM_NAMED = 5


class OperationGate:
    """Lets those exported networks pass whose operations the device has; asks once for each set of operations.

    Candidates of one model mostly differ in sizes alone, and a question starts a process.

    The device need not be at hand, but its OpenVINO must be. On a host without it (a GPU host that lacks the stick's
    interpreter) every network passes, which is told once; the edge host then finds out when it compiles.

    Args:
        profile: Of the device.
    """

    def __init__(self, profile: DeviceProfile) -> None:
        self._profile = profile
        self._answers: dict[str, str | None] = {}
        self._is_at_hand = True
        self._asking = threading.Lock()

    def __call__(self, content: bytes) -> None:
        """Let an ONNX file pass, or not.

        Raises:
            UnsupportedError: The device lacks operations that it needs, or its OpenVINO cannot read it.
        """
        operations = operations_signature(content)
        with self._asking:
            if operations not in self._answers and self._is_at_hand:
                self._answers[operations] = self._problem(content)
        if problem := self._answers.get(operations):
            raise UnsupportedError(problem)

    def _problem(self, content: bytes) -> str | None:
        profile = self._profile
        with tempfile.TemporaryDirectory(prefix="secateur-") as folder:
            path = Path(folder, "network.onnx")
            path.write_bytes(content)
            try:
                (missing,) = benchmark.unsupported_operations([path], profile)
            except (StudyError, MeasurementError) as exc:
                self._is_at_hand = False
                progress.message(f"Whether {profile.device} has all operations is found out when it measures: {exc}")
                return None
            except InputError as exc:
                return f"Device profile {profile.name!r}: {str(exc).replace(str(path), 'the exported network')}"
        if not missing:
            return None
        more = f" and {len(missing) - _NUM_NAMED} more" if len(missing) > _NUM_NAMED else ""
        return (
            f"Device {profile.device!r} (profile {profile.name!r}) does not support {', '.join(missing[:_NUM_NAMED])}"
            f"{more}. Make the model of other operations, or choose another device."
        )
