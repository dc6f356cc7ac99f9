"""C, compiled when a process first needs it (half a second), for one type of numbers."""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from secateur import progress

_SOURCE = Path(__file__).with_name("batch_norm.c")
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
_WIDE = ("-mprefer-vector-width=512",)
"""GCC uses half of AVX-512's registers unless told to use the whole."""
_TYPES = {torch.float32: (), torch.bfloat16: ("-DBF16",)}
_COMPILER_LIMIT_S = 60.0
_WITHOUT = "Batch normalisation is torch's own, with which training on the CPU takes longer: {}"


@cache
def kernels(dtype: torch.dtype) -> ctypes.CDLL | None:
    """Return the compiled `batch_norm.c`; None for other types than f32 and bf16, or if no compiler works here."""
    if dtype not in _TYPES:
        return None
    if (compiler := shutil.which("cc")) is None:
        if dtype == torch.float32:  # which is asked for first
            progress.message(_WITHOUT.format("no C compiler `cc` is installed."))
        return None
    wide = _WIDE if platform.machine() == "x86_64" else ()
    try:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            library = str(Path(folder, "batch_norm.so"))
            command = [compiler, *_FLAGS, *wide, *_TYPES[dtype], str(_SOURCE), "-o", library]
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILER_LIMIT_S)
            return ctypes.CDLL(library)
    except (OSError, subprocess.SubprocessError) as exc:
        progress.message(_WITHOUT.format(f"{compiler} failed: {exc}"))
        return None


def call(name: str, input_NCHW: Tensor, *others: Tensor | float | None) -> None:
    """Call a kernel of `batch_norm.c`.

    Args:
        name: Of the function.
        input_NCHW: Its first argument, channels-last, of a type that `kernels` has.
        others: The arguments after it: tensors, or NULL, and numbers. What every kernel takes last is added: how many
            numbers and channels the input has, and how many threads are to share the work.

    Raises:
        OutOfMemoryError: The kernel got no memory to work with.
    """
    sizes = (ctypes.c_int64(input_NCHW.numel()), ctypes.c_int64(input_NCHW.shape[1]))
    arguments = [_argument(other) for other in (input_NCHW, *others)]
    if getattr(kernels(input_NCHW.dtype), name)(*arguments, *sizes, torch.get_num_threads()):
        raise torch.OutOfMemoryError("The memory does not suffice for batch normalisation.")


def _argument(value: Tensor | float | None) -> ctypes.c_void_p | ctypes.c_int | ctypes.c_double:
    if value is None or isinstance(value, Tensor):
        return ctypes.c_void_p(None if value is None else value.data_ptr())
    return ctypes.c_int(value) if isinstance(value, bool) else ctypes.c_double(value)
