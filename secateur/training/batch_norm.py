"""Batch normalisation while training on a CPU: kernels of our own, and one backward pass for it and a ReLU after it.

The kernels (`batch_norm.c`) are compiled when a process needs them first, which takes half a second. They are called
while a `TorchFunctionMode` lasts, so any network's `forward` stays as it is; results are torch's but for rounding.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

from secateur import progress
from secateur.training.settings import Device

_SOURCE = Path(__file__).with_name("batch_norm.c")
_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC")
_WIDE = ("-mprefer-vector-width=512",)
"""GCC uses half of AVX-512's registers unless told to use the whole."""
_TYPES = {torch.float32: (), torch.bfloat16: ("-DBF16",)}
_COMPILER_LIMIT_S = 60.0

_RELUS = {F.relu, torch.relu, Tensor.relu}
_SUMS = {torch.add, Tensor.add, Tensor.__add__, Tensor.add_, Tensor.__iadd__}
_NOTE, _AGAIN = "_secateur_normalized", "_secateur_again"
"""Attributes of tensors: a `_Note`; and the same tensor once more, see `_ReLU`."""


@contextmanager
def fast_batch_norm(device: Device) -> Iterator[None]:
    """Let forward and backward passes on the CPU use the kernels; elsewhere, or without a C compiler, change nothing.

    What they are used for: batch normalisation of channels-last images in f32 or bf16, with weight, bias and the
    batch's own statistics. Whatever else a network does, torch does.
    """
    if device != "cpu" or _kernels(torch.float32) is None:
        yield
        return
    with _FastBatchNorm():
        yield


class _FastBatchNorm(TorchFunctionMode):
    """Takes batch normalisation over, and the ReLU of what it made."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return _batch_norm(*args, **kwargs)
        if func in _RELUS and (output := _relu(*args, **kwargs)) is not None:
            return output
        if func in _SUMS and not kwargs:
            return _sum(func, *args)
        return func(*args, **kwargs)


@dataclass(frozen=True, kw_only=True)
class _Note:
    """Kept at a tensor: that it was normalised, and what was added to it since."""

    input_NCHW: Tensor
    weight: Tensor
    bias: Tensor
    mean: Tensor
    inverse: Tensor
    """Of the standard deviation."""
    added_NCHW: Tensor | None = None
    version: int
    """Of the tensor; anything written into it afterwards makes the note void."""


def _note_of(tensor: object) -> _Note | None:
    note: _Note | None = getattr(tensor, _NOTE, None)
    return note if isinstance(tensor, Tensor) and note is not None and note.version == tensor._version else None


def _batch_norm(
    input: Tensor,  # noqa: A002 (torch's name)
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    vectors = (weight, bias, running_mean, running_var)
    are_plain = all(vector is None or _is_plain(vector) for vector in vectors)
    if weight is None or bias is None or not (training and are_plain and _is_fit(input)):
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    output: Tensor
    output, mean, inverse = _BatchNorm.apply(input, weight, bias, running_mean, running_var, momentum, eps)
    if output.requires_grad:
        version = output._version
        note = _Note(input_NCHW=input, weight=weight, bias=bias, mean=mean, inverse=inverse, version=version)
        setattr(output, _NOTE, note)
    return output


def _sum(func: Callable[..., Any], first: Any, second: Any) -> Any:
    """Add, and note at the sum that one of its terms was normalised."""
    terms = ((_note_of(first), second), (_note_of(second), first))
    output = func(first, second)
    for note, added in terms:
        if note is None or note.added_NCHW is not None or added is output:
            continue
        if _are_alike(added, note.input_NCHW, output):
            added = getattr(added, _AGAIN, added)
            setattr(output, _NOTE, replace(note, added_NCHW=added, version=output._version))
            break
    return output


def _are_alike(added: object, *tensors: Tensor) -> bool:
    layout = torch.channels_last
    return isinstance(added, Tensor) and all(
        (added.shape, added.dtype) == (tensor.shape, tensor.dtype) and tensor.is_contiguous(memory_format=layout)
        for tensor in (added, *tensors)
    )


def _relu(input: Tensor, inplace: bool = False) -> Tensor | None:  # noqa: A002 (torch's name)
    """Return a normalised tensor's ReLU; None if it is none, or no gradient is wanted, or one is to be seen."""
    note = _note_of(input)
    if note is None or not torch.is_grad_enabled() or input._backward_hooks or input.retains_grad:
        return None
    # Only in place does the ReLU take its input's place in the graph: otherwise that may have other readers.
    output: Tensor
    output, again = _ReLU.apply(
        input if inplace else input.detach(),
        *(note.input_NCHW, note.weight, note.bias, note.added_NCHW, note.mean, note.inverse),
        inplace,
    )
    setattr(output, _AGAIN, again)
    return output


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        input_NCHW: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        epsilon: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        output_NCHW, mean, inverse = torch.empty_like(input_NCHW), torch.empty_like(weight), torch.empty_like(weight)
        statistics = (running_mean, running_var)
        results = (output_NCHW, mean, inverse)
        _call("forward", input_NCHW, weight, bias, *statistics, momentum, epsilon, *results)
        ctx.save_for_backward(input_NCHW, weight, mean, inverse)
        ctx.mark_non_differentiable(mean, inverse)
        ctx.set_materialize_grads(False)
        return results

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
        if gradient_NCHW is None:  # a ReLU has taken this step back, too
            return (None,) * 7
        *gradients, _masked = _gradients([gradient_NCHW], None, *ctx.saved_tensors, is_sum=False)
        return (*gradients, None, None, None, None)


class _ReLU(torch.autograd.Function):
    """Of what was normalised: its backward pass is that of the normalisation, too.

    Returns the output twice, in one memory, for two readers: the engine would add their gradients up in a pass of its
    own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        sum_NCHW: Tensor,
        input_NCHW: Tensor,
        weight: Tensor,
        bias: Tensor,  # noqa: ARG004 (to give it a gradient)
        added_NCHW: Tensor | None,
        mean: Tensor,
        inverse: Tensor,
        inplace: bool,
    ) -> tuple[Tensor, Tensor]:
        if inplace:
            ctx.mark_dirty(sum_NCHW)
        output_NCHW = sum_NCHW.relu_() if inplace else sum_NCHW.relu()
        ctx.save_for_backward(output_NCHW, input_NCHW, weight, mean, inverse)
        ctx.is_sum = added_NCHW is not None
        ctx.set_materialize_grads(False)
        again_NCHW = output_NCHW.new_empty(0).set_(output_NCHW)  # type: ignore[call-overload]
        return output_NCHW, again_NCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *both_NCHW: Tensor | None) -> tuple[Tensor | None, ...]:
        present = [gradient for gradient in both_NCHW if gradient is not None]
        if not present:
            return (None,) * 8
        output_NCHW, *normalization = ctx.saved_tensors
        *gradients, of_added = _gradients(present, output_NCHW, *normalization, is_sum=ctx.is_sum)
        return (None, *gradients, of_added, None, None, None)


def _gradients(
    of_output: Sequence[Tensor],
    mask_NCHW: Tensor | None,
    input_NCHW: Tensor,
    weight: Tensor,
    mean: Tensor,
    inverse: Tensor,
    *,
    is_sum: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return the gradients of a normalisation's input, weight and bias, and of what was added to its output."""
    layout = torch.channels_last
    first, second = (
        *(gradient.to(input_NCHW.dtype).contiguous(memory_format=layout) for gradient in of_output),
        None,
    )[:2]
    of_input, of_weight, of_bias = torch.empty_like(input_NCHW), torch.empty_like(weight), torch.empty_like(weight)
    of_sum = torch.empty_like(input_NCHW) if is_sum else of_input
    given = (input_NCHW, first, second, mask_NCHW, weight, mean, inverse)
    _call("backward", *given, of_input, of_sum, of_weight, of_bias)
    return of_input, of_weight, of_bias, of_sum if is_sum else None


def _is_fit(input_NCHW: Tensor) -> bool:
    return (
        input_NCHW.ndim == 4
        and input_NCHW.device.type == "cpu"
        and input_NCHW.is_contiguous(memory_format=torch.channels_last)
        and input_NCHW.numel() > input_NCHW.shape[1]  # of one position, torch says what is wrong
        and _kernels(input_NCHW.dtype) is not None
    )


def _is_plain(vector: Tensor) -> bool:
    return vector.dtype == torch.float32 and vector.is_contiguous()


def _call(name: str, input_NCHW: Tensor, *others: Tensor | float | None) -> None:
    """Call a kernel: tensors as pointers, then numbers of the input, channels and threads."""
    arguments = [
        ctypes.c_double(other)
        if isinstance(other, (int, float))
        else ctypes.c_void_p(None if other is None else other.data_ptr())
        for other in (input_NCHW, *others)
    ]
    sizes = (ctypes.c_int64(input_NCHW.numel()), ctypes.c_int64(input_NCHW.shape[1]))
    if getattr(_kernels(input_NCHW.dtype), name)(*arguments, *sizes, torch.get_num_threads()):
        raise torch.OutOfMemoryError("The memory does not suffice for batch normalisation.")


@cache
def _kernels(dtype: torch.dtype) -> ctypes.CDLL | None:
    """Compile the kernels for one type; None for other types, or if that does not work here."""
    if dtype not in _TYPES or (compiler := shutil.which("cc")) is None:
        return None
    wide = _WIDE if platform.machine() == "x86_64" else ()
    with tempfile.TemporaryDirectory() as folder:
        library = str(Path(folder, "batch_norm.so"))
        command = [compiler, *_FLAGS, *wide, *_TYPES[dtype], str(_SOURCE), "-o", library]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_COMPILER_LIMIT_S)
            return ctypes.CDLL(library)
        except (OSError, subprocess.SubprocessError) as exc:
            progress.message(f"Batch normalisation is torch's own, which is slower: {command[0]} failed: {exc}")
            return None
