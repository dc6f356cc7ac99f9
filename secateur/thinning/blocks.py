"""Remove whole residual blocks: on fast devices the number of operations decides, not their width.

A residual block can go if its shortcut is the identity: what is left is then what the shortcut carries.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 (everybody's name for it)
from torch import Tensor, nn
from torch.func import functional_call

from secateur.errors import ThinningError, did_you_mean
from secateur.models.network_file import put_module, replace_by_identity
from secateur.thinning.counting import observe, random_like
from secateur.thinning.spaces import ChannelSpace, Layer

_TOLERANCE = 1e-4
"""Allowed max |network without blocks - network with silent blocks|, relative to the latter's largest value."""


def find_residual_blocks(model: nn.Module, example_NCHW: Tensor) -> tuple[str, ...]:
    """Find the residual blocks whose shortcut is the identity.

    Such a block returns its input when all its parameters are zero, and nothing within it does: so blocks are found by
    what they compute, whoever wrote them. (A ReLU behind the sum changes nothing where one stands before the block.)

    Args:
        model: Not changed.
        example_NCHW: An input of the shape it takes.

    Returns:
        Module names, in the order of the model.
    """
    inputs: dict[str, Tensor | None] = {}
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        def note(_: nn.Module, arguments: tuple[object, ...], output: object) -> None:
            is_first_call = name not in inputs
            inputs[name] = None
            match arguments:
                case [Tensor() as features] if isinstance(output, Tensor) and output.shape == features.shape:
                    inputs[name] = features if is_first_call else None

        handles.append(module.register_forward_hook(note))

    for name, module in model.named_modules():
        if name and next(module.children(), None) is not None and next(module.parameters(), None) is not None:
            watch(name, module)
    try:
        observe(model, random_like(model, example_NCHW))
    finally:
        for handle in handles:
            handle.remove()
    found = [name for name, features in inputs.items() if features is not None and _is_identity(model, name, features)]
    order = [name for name, _ in model.named_modules() if name in found]
    return tuple(name for name in order if not any(other.startswith(f"{name}.") for other in found))


def _is_identity(model: nn.Module, name: str, features: Tensor) -> bool:
    """Tell whether a module without its weights returns what it is given."""
    module = model.get_submodule(name)
    output, _ = observe(module, features, lambda x: functional_call(module, _zeros(module), (x.clone(),)))
    return torch.equal(output, features)


def _zeros(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    return {prefix + name: torch.zeros_like(parameter) for name, parameter in module.named_parameters()}


def mean_abs_weight(block: nn.Module) -> float:
    """Return the mean absolute weight of a block's convolutions and linear layers, averaged over these layers.

    The magnitude criterion of one-shot layer pruning (Elkerdawy et al. 2020, "To filter prune, or to layer prune, that
    is the question"): a layer is as important as its filters are on average, by L1 norm; here for each weight, so
    that layers of all sizes count alike.
    """
    layers = [module for module in block.modules() if isinstance(module, Layer)]
    return sum(float(layer.weight.detach().abs().mean()) for layer in layers) / max(len(layers), 1)


def measure_change_without(model: nn.Module, blocks: Sequence[str], images_NCHW: Sequence[Tensor]) -> dict[str, float]:
    """Return how much a network's predictions change when one of its residual blocks alone is left out.

    That is the mean Kullback-Leibler divergence of what is predicted without it from what is predicted with it, in
    nats; NaN where the network overflows without it. Unlike the size of weights it does not depend on how a
    normalisation behind them scales what they compute.

    Args:
        model: Left as it is.
        blocks: Its residual blocks; see `find_residual_blocks`.
        images_NCHW: Batches of normalised images, where the model is.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            predicted = [F.log_softmax(model(images), 1) for images in images_NCHW]
            return {name: _measure_change_without(model, name, images_NCHW, predicted) for name in blocks}
    finally:
        for module, is_training in modes.items():
            module.training = is_training


def _measure_change_without(
    model: nn.Module, name: str, images_NCHW: Sequence[Tensor], predicted: Sequence[Tensor]
) -> float:
    handle = model.get_submodule(name).register_forward_hook(lambda _, inputs, __: inputs[0])
    try:
        changes = [
            F.kl_div(F.log_softmax(model(images), 1), before, log_target=True, reduction="sum")
            for images, before in zip(images_NCHW, predicted, strict=True)
        ]
    finally:
        handle.remove()
    return float(torch.stack(changes).sum()) / sum(len(images) for images in images_NCHW)


def choose_blocks(
    model: nn.Module,
    blocks: Sequence[str],
    keep: Mapping[str, int],
    importance: Callable[[str], float] | None = None,
) -> tuple[str, ...]:
    """Return which blocks go, the least important of each stage first (equal ones in order).

    Args:
        model: The network.
        blocks: Its residual blocks; see `find_residual_blocks`.
        keep: Name of a stage (a module that directly holds blocks), or of one block -> how many of its blocks stay.
        importance: Tells it of a block, such as `measure_change_without`; NaN for one that must stay. By default
            `mean_abs_weight`, for which no image is needed. Not asked where a whole stage goes, or stays.

    Raises:
        ThinningError: There are no such blocks, or not so many.
    """

    def worth(name: str) -> float:
        value = mean_abs_weight(model.get_submodule(name)) if importance is None else importance(name)
        return math.inf if math.isnan(value) else value

    going: set[str] = set()
    for stage, num_kept in keep.items():
        members = [name for name in blocks if stage in (name, name.rpartition(".")[0])]
        if not members:
            known = {name.rpartition(".")[0] for name in blocks}
            raise ThinningError(
                f"{stage!r} holds no residual block whose shortcut is the identity.{did_you_mean(stage, known)}"
            )
        if num_kept > len(members):
            raise ThinningError(
                f"{stage!r} cannot keep {num_kept} residual blocks whose shortcut is the identity: it has "
                f"{len(members)}."
            )
        if 0 < num_kept < len(members):
            members.sort(key=worth)
        going.update(members[: len(members) - num_kept])
    return tuple(name for name in blocks if name in going)


def remove_blocks(model: nn.Module, blocks: Collection[str], example_NCHW: Tensor) -> None:
    """Replace blocks by the identity, in place, and check that the network computes what it does with them silent.

    Args:
        model: The network.
        blocks: Module names.
        example_NCHW: An input of the shape the network takes.

    Raises:
        ThinningError: It does not: a shortcut is not the identity. The network is unchanged then.
    """
    images_NCHW = random_like(model, example_NCHW)
    removed = {name: model.get_submodule(name) for name in blocks}
    silent = {key: zeros for name, block in removed.items() for key, zeros in _zeros(block, f"{name}.").items()}
    expected, _ = observe(model, images_NCHW, lambda images: functional_call(model, silent, (images,)))
    replace_by_identity(model, blocks)
    output, _ = observe(model, images_NCHW)
    difference = float((output - expected).abs().max())
    tolerance = _TOLERANCE * float(expected.abs().max())
    if not difference <= tolerance:  # NaN fails too
        for name, block in removed.items():
            put_module(model, name, block)
        raise ThinningError(
            f"The network without {', '.join(blocks)} is not the one in which these blocks are silent: their shortcuts "
            f"are not the identity (max difference {difference:.3g}, tolerance {tolerance:.3g})."
        )


def spaces_without(spaces: Sequence[ChannelSpace], blocks: Collection[str]) -> tuple[ChannelSpace, ...]:
    """Return the channel spaces of a network that has lost blocks: the others have fewer members."""
    prefixes = tuple(f"{name}." for name in blocks)
    left = (
        space.with_members((k, m) for k, m in space.members() if not m.layer.startswith(prefixes)) for space in spaces
    )
    return tuple(space for space in left if space.producers or space.carriers)
