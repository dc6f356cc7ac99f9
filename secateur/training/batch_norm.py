"""Batch normalisation while training on a CPU: with the sum and the ReLU after it one pass forward, and one backward.

The kernels are our own (`batch_norm.c`). They are called while a `TorchFunctionMode` lasts, so any network's `forward`
stays as it is; results are torch's but for rounding.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor
from torch._C._autograd import _top_saved_tensors_default_hooks
from torch.autograd.function import once_differentiable
from torch.autograd.graph import Node, increment_version
from torch.overrides import TorchFunctionMode

from secateur.training.kernels import call, kernels
from secateur.training.settings import Device

_RELUS = {F.relu, torch.relu, Tensor.relu}
_SUMS = {torch.add, Tensor.add, Tensor.__add__}
_SUMS_IN_PLACE = {Tensor.add_, Tensor.__iadd__}
_RECIPE, _AGAIN = "_secateur_recipe", "_secateur_again"
"""Attributes of tensors: a `_Recipe`; and the same tensor once more, see `_ReLU`."""

Context = Callable[[], AbstractContextManager[None]]


def fast_batch_norm_on(device: Device) -> Context:
    """Return what forward passes may be run in: `fast_batch_norm` on a CPU with a C compiler, or nothing.

    A network may read what was normalised in another way than through torch's functions, as TorchScript does. It then
    finds what it computes to be NaN, and is to be run in nothing.
    """
    return fast_batch_norm if device == "cpu" and kernels(torch.float32) is not None else nullcontext


@contextmanager
def fast_batch_norm() -> Iterator[None]:
    """Let the kernels normalise channels-last images, in f32 or bf16, by the batch's own statistics.

    There must be weight and bias. Whatever else a network does, torch does; and all of it where activations are not
    kept but computed again (`torch.utils.checkpoint`). Hooks on the gradient of a normalised tensor, or of its ReLU,
    must be there before it is used.
    """
    mode = _FastBatchNorm()
    try:
        with mode:
            yield
    finally:
        mode.fill()


class _FastBatchNorm(TorchFunctionMode):
    """Leaves what is normalised empty, until it is known what comes of it.

    A ReLU is computed from the normalisation's own input, and the empty tensor is never needed. Before any other
    function of torch, which may read it, or change what it is to be made of, it is filled.
    """

    def __init__(self) -> None:
        super().__init__()
        self._empty: list[weakref.ref[Tensor]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        output: Any
        if func in _RELUS and (output := self._relu(*args, **kwargs)) is not None:
            return output
        if (func in _SUMS or func in _SUMS_IN_PLACE) and len(args) == 2 and not kwargs:
            output = self._sum(*args, inplace=func in _SUMS_IN_PLACE)
            if output is not None:
                return output
        self.fill()
        return self._batch_norm(*args, **kwargs) if func is F.batch_norm else func(*args, **kwargs)

    def fill(self, *, made_of: Tensor | None = None) -> None:
        """Write into what is still empty, and still there, what belongs there.

        Args:
            made_of: Only into what this tensor, which is to be written into, is needed for.
        """
        there = [tensor for reference in self._empty if (tensor := reference()) is not None]
        for tensor in there:
            recipe = _recipe_of(tensor)
            if recipe is not None and (made_of is None or recipe.reads(made_of)):
                _fill(tensor, recipe)
                if not torch.is_grad_enabled():
                    setattr(tensor, _RECIPE, None)  # it holds what nobody needs for a backward pass
        self._empty = [] if made_of is None else [weakref.ref(tensor) for tensor in there]

    def _leave_empty(self, tensor: Tensor, recipe: _Recipe) -> Tensor:
        tensor.detach().as_strided((1,), (1,)).fill_(torch.nan)  # so that nobody reads it unnoticed
        recipe.version, recipe.grad_fn = tensor._version, tensor.grad_fn
        recipe.versions = [source._version for source in recipe.sources]
        setattr(tensor, _RECIPE, recipe)
        self._empty.append(weakref.ref(tensor))
        return tensor

    def _batch_norm(
        self,
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
        if (
            weight is None
            or bias is None
            or not training
            or eps <= 0
            or not _is_fit(input)
            or not all(vector is None or _is_plain(vector, input.shape[1]) for vector in vectors)
        ):
            return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        mean, inverse, slope, offset = (torch.empty_like(weight) for _ in range(4))
        found = (mean, inverse, slope, offset)
        call("statistics", input, weight, bias, running_mean, running_var, momentum, eps, *found)
        output = _BatchNorm.apply(input, weight, bias, mean, inverse)
        recipe = _Recipe(
            input_NCHW=input, weight=weight, bias=bias, mean=mean, inverse=inverse, slope=slope, offset=offset
        )
        return self._leave_empty(output, recipe)

    def _sum(self, first: Any, second: Any, *, inplace: bool) -> Tensor | None:
        """Return an empty tensor for a sum with a normalised tensor; None if neither is one, or they do not match."""
        for normalized, added in ((first, second),) if inplace else ((first, second), (second, first)):
            recipe = _usable_recipe_of(normalized, inplace=inplace)
            if recipe is None or recipe.added_NCHW is not None or not _are_alike(added, recipe.input_NCHW):
                continue
            if inplace and _share_memory(added, normalized):
                continue
            if inplace:
                self.fill(made_of=normalized)
            if (of_added := _recipe_of(added)) is not None:
                _fill(added, of_added)
            output = _Sum.apply(normalized, added, inplace)
            return self._leave_empty(output, replace(recipe, added_NCHW=_again(added), is_followed=False))
        return None

    def _relu(self, input: Tensor, inplace: bool = False) -> Tensor | None:  # noqa: A002 (torch's name)
        """Return a normalised tensor's ReLU; None if it is none."""
        recipe = _usable_recipe_of(input, inplace=inplace)
        if recipe is None:
            return None
        if inplace:
            self.fill(made_of=input)
        given = (recipe.input_NCHW, recipe.weight, recipe.bias, recipe.added_NCHW)
        found = (recipe.mean, recipe.inverse, recipe.slope, recipe.offset)
        # Only in place does the ReLU take its input's place in the graph: otherwise that may have other readers.
        output: Tensor
        output, again = _ReLU.apply(input if inplace else None, *given, *found)
        setattr(output, _AGAIN, again)
        return output


@dataclass(kw_only=True)
class _Recipe:
    """Kept at a tensor: of what it is made, `input * slope + offset`, or that and `added`."""

    input_NCHW: Tensor
    weight: Tensor
    bias: Tensor
    mean: Tensor
    inverse: Tensor
    """Of the standard deviation."""
    slope: Tensor
    offset: Tensor
    added_NCHW: Tensor | None = None
    version: int = -1
    """Of the tensor; anything written into it afterwards makes this void."""
    versions: list[int] = field(default_factory=list)
    """Of `sources`."""
    grad_fn: Node | None = None
    """Of the tensor; another one: the tensor was cut off, or grafted."""
    is_followed: bool = False
    """The tensor has been filled."""

    @property
    def sources(self) -> list[Tensor]:
        """What the tensor is made of."""
        return [self.input_NCHW] if self.added_NCHW is None else [self.input_NCHW, self.added_NCHW]

    def reads(self, tensor: Tensor) -> bool:
        """Tell whether a tensor, or another in the same memory, is among what the tensor is made of."""
        return any(_share_memory(source, tensor) for source in self.sources)


def _recipe_of(tensor: object) -> _Recipe | None:
    recipe: _Recipe | None = getattr(tensor, _RECIPE, None)
    if recipe is None or not isinstance(tensor, Tensor) or recipe.version != tensor._version:
        return None
    return recipe


def _usable_recipe_of(tensor: object, *, inplace: bool) -> _Recipe | None:
    """Return a tensor's recipe, if something else may be made by it, too: in values and in gradients."""
    recipe = _recipe_of(tensor)
    if recipe is None or not isinstance(tensor, Tensor):
        return None
    is_unchanged = [source._version for source in recipe.sources] == recipe.versions
    is_seen = bool(tensor._backward_hooks) or tensor.retains_grad
    if not is_unchanged or is_seen or tensor.grad_fn is not recipe.grad_fn:
        return None
    if not torch.is_grad_enabled():
        return None if inplace and tensor.requires_grad else recipe
    learns = any(made_of.requires_grad for made_of in (tensor, recipe.weight, recipe.bias, *recipe.sources))
    return None if learns and tensor.grad_fn is None else recipe  # it was made where no gradient was wanted


def _again(output_NCHW: Tensor) -> Tensor:
    """Return a ReLU's output once more, see `_ReLU`; or the tensor itself, if it is none or not as it was."""
    again: Tensor | None = getattr(output_NCHW, _AGAIN, None)
    is_seen = bool(output_NCHW._backward_hooks) or output_NCHW.retains_grad
    return output_NCHW if again is None or is_seen or again.grad_fn is not output_NCHW.grad_fn else again


def _share_memory(first: Tensor, second: Tensor) -> bool:
    return first.untyped_storage().data_ptr() == second.untyped_storage().data_ptr()


def _fill(tensor: Tensor, recipe: _Recipe) -> None:
    if not recipe.is_followed:
        call("normalize", recipe.input_NCHW, recipe.added_NCHW, recipe.slope, recipe.offset, tensor, False)
        recipe.is_followed = True


def _is_fit(input_NCHW: Tensor) -> bool:
    return (
        input_NCHW.ndim == 4
        and input_NCHW.device.type == "cpu"
        and input_NCHW.is_contiguous(memory_format=torch.channels_last)
        and input_NCHW.numel() > input_NCHW.shape[1]  # of one position, torch says what is wrong
        and not input_NCHW.is_inference()
        and not torch.is_inference_mode_enabled()
        and _top_saved_tensors_default_hooks(True) is None  # else activations may be computed again: see checkpoint
        and kernels(input_NCHW.dtype) is not None
    )


def _is_plain(vector: Tensor, size: int) -> bool:
    is_fit = vector.shape == (size,) and vector.dtype == torch.float32 and vector.device.type == "cpu"
    return is_fit and vector.is_contiguous()


def _are_alike(added: object, input_NCHW: Tensor) -> bool:
    return (
        isinstance(added, Tensor)
        and not added.is_inference()
        and (added.shape, added.dtype) == (input_NCHW.shape, input_NCHW.dtype)
        and added.is_contiguous(memory_format=torch.channels_last)
    )


class _BatchNorm(torch.autograd.Function):
    """Its output is left empty."""

    @staticmethod
    def forward(
        ctx: Any,
        input_NCHW: Tensor,
        weight: Tensor,
        bias: Tensor,  # noqa: ARG004 (to give it a gradient)
        mean: Tensor,
        inverse: Tensor,
    ) -> Tensor:
        ctx.save_for_backward(input_NCHW, weight, mean, inverse)
        ctx.set_materialize_grads(False)
        return torch.empty_like(input_NCHW)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient_NCHW is None:  # a ReLU in place has taken this step back, too
            return (None,) * 5
        *gradients, _masked = _gradients([gradient_NCHW], None, *ctx.saved_tensors, is_sum=False)
        return (*gradients, None, None)


class _Sum(torch.autograd.Function):
    """Its output is left empty."""

    @staticmethod
    def forward(ctx: Any, normalized_NCHW: Tensor, added_NCHW: Tensor, inplace: bool) -> Tensor:  # noqa: ARG004
        ctx.set_materialize_grads(False)
        if not inplace:
            return torch.empty_like(normalized_NCHW)
        ctx.mark_dirty(normalized_NCHW)
        return normalized_NCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient_NCHW: Tensor | None) -> tuple[Tensor | None, ...]:  # noqa: ARG004
        return gradient_NCHW, gradient_NCHW, None


class _ReLU(torch.autograd.Function):
    """Of what was normalised: its backward pass is that of the normalisation, too.

    Returns the output twice, in one memory, for two readers: the engine would add their gradients up in a pass of its
    own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        dirty_NCHW: Tensor | None,
        input_NCHW: Tensor,
        weight: Tensor,
        bias: Tensor,  # noqa: ARG004 (to give it a gradient)
        added_NCHW: Tensor | None,
        mean: Tensor,
        inverse: Tensor,
        slope: Tensor,
        offset: Tensor,
    ) -> tuple[Tensor, Tensor]:
        output_NCHW = torch.empty_like(input_NCHW) if dirty_NCHW is None else dirty_NCHW
        call("normalize", input_NCHW, added_NCHW, slope, offset, output_NCHW, True)
        if dirty_NCHW is not None:
            ctx.mark_dirty(dirty_NCHW)
            increment_version(dirty_NCHW)
        ctx.save_for_backward(output_NCHW, input_NCHW, weight, mean, inverse)
        ctx.is_sum = added_NCHW is not None
        ctx.set_materialize_grads(False)
        return output_NCHW, output_NCHW.new_empty(0).set_(output_NCHW)  # type: ignore[call-overload]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *both_NCHW: Tensor | None) -> tuple[Tensor | None, ...]:
        present = [gradient for gradient in both_NCHW if gradient is not None]
        if not present:
            return (None,) * 9
        output_NCHW, *normalization = ctx.saved_tensors
        *gradients, of_added = _gradients(present, output_NCHW, *normalization, is_sum=ctx.is_sum)
        return (None, *gradients, of_added, None, None, None, None)


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
    first, *second = (gradient.to(input_NCHW.dtype).contiguous(memory_format=layout) for gradient in of_output)
    of_input, of_weight, of_bias = torch.empty_like(input_NCHW), torch.empty_like(weight), torch.empty_like(weight)
    of_sum = torch.empty_like(input_NCHW) if is_sum else of_input
    given = (input_NCHW, first, second[0] if second else None, mask_NCHW, weight, mean, inverse)
    call("backward", *given, of_input, of_sum, of_weight, of_bias)
    return of_input, of_weight, of_bias, of_sum if is_sum else None
