"""Memory: the C library's, which every training step takes and leaves again, and how to tell that it was short."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from secateur.training.settings import Device

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Numbers of `mallopt` (malloc.h)."""


@contextmanager
def freed_memory_kept(device: Device) -> Iterator[None]:
    """Let the C library keep what tensors leave, and give it back to the kernel when training ends.

    Else a step's activations, hundreds of megabytes, are given back after every step and come again page by page: a
    sixth of a step on the CPU. Holds for the whole process, which from then on keeps more than it would; other
    trainings may be at work in it. Only glibc is known to need it.
    """
    if device != "cpu" or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_TRIM_THRESHOLD, -1)
    libc.mallopt(_M_MMAP_MAX, 0)
    try:
        yield
    finally:
        libc.malloc_trim(0)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether memory was short: the CPU's allocator has no error of its own."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
