"""Run a compression schedule on a model, at the moments of the training loop (SPEC section 2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.pruning.ranking import Norm, Side, keep_mask
from secateur.results import Scores
from secateur.schedule import Entry, RankedStructurePruner, Remover, Schedule, lr_sequence, resolve_name
from secateur.thinning import ChannelSpace, all_filters, thin, trace_channel_spaces


class ScheduleEngine:
    """Prunes, masks, thins and sets learning rates as a schedule says; the trainer's callbacks.

    Masks are computed when an epoch begins, and applied when its first minibatch does: so all pruners of an epoch see
    the weights as they were. They are applied again after every optimizer step. Two pruners on one weight do not
    intersect: the later wins.

    Attributes:
        kept: Convolution -> indices, into its filters before any pruning, of those it still has.
    """

    def __init__(
        self,
        model: nn.Module,
        schedule: Schedule,
        example_NCHW: Tensor,
        *,
        base_lr: float,
        num_epochs: int,
        spaces: Sequence[ChannelSpace] | None = None,
    ) -> None:
        """Prepare to run `schedule` on `model`.

        Args:
            model: Changed in place as the schedule says.
            schedule: Checked against the model (`check_fit`).
            example_NCHW: An input the model accepts.
            base_lr: Learning rate that LR schedulers start from.
            num_epochs: Epochs of training.
            spaces: The model's channel spaces, if they are known already.
        """
        self.kept = all_filters(model)
        self._model = model
        self._schedule = schedule
        self._example_NCHW = example_NCHW
        self._spaces = spaces
        self._optimizer: Optimizer | None = None
        """Known once it has momentum, which is trimmed when the network is thinned."""
        self._masks: dict[str, tuple[int, Tensor]] = {}
        """Parameter -> (dimension, True = keep)."""
        self._begun: set[int] = set()
        self._rates = {
            policy.entry.name: lr_sequence(policy.entry.class_name, _lr_arguments(policy.entry), base_lr, num_epochs)
            for policy in schedule.of_kind("lr_scheduler")
        }

    @property
    def masked(self) -> dict[str, tuple[int, tuple[int, ...]]]:
        """Parameter -> (dimension, indices) of what is kept at zero, since it is not removed, or not yet."""
        return {name: (dim, tuple((~mask).nonzero().flatten().tolist())) for name, (dim, mask) in self._masks.items()}

    def prune_before_training(self) -> None:
        """Do what the schedule says for the first minibatch of epoch 0; training then goes on from there.

        Raises:
            ThinningError: What was pruned cannot be removed.
        """
        self.on_epoch_begin(0)
        self.on_minibatch_begin(0, 0, 1)

    def on_epoch_begin(self, epoch: int) -> None:
        """Compute the masks of this epoch's pruners."""
        if epoch in self._begun:
            return
        for policy in self._schedule.of_kind("pruner"):
            if epoch in policy.epochs:
                self._compute_masks(policy.entry)

    def on_minibatch_begin(self, epoch: int, minibatch: int, num_minibatches: int) -> None:  # noqa: ARG002
        """Apply masks, then thin, in the order of the policies, once an epoch."""
        if epoch in self._begun:
            return
        self._begun.add(epoch)
        for policy in self._schedule.policies:
            if epoch not in policy.epochs:
                continue
            if policy.entry.kind == "pruner":
                self._apply_masks()
            elif isinstance(policy.entry.arguments, Remover):
                self._thin(policy.entry.arguments)

    def before_backward(self, loss: Tensor) -> Tensor:
        """Return the loss to minimise."""
        return loss

    def before_optimizer_step(self) -> None:
        """Do nothing: no supported class acts here."""

    def on_minibatch_end(self, epoch: int, minibatch: int, num_minibatches: int) -> None:  # noqa: ARG002
        """Keep masked weights at zero, in every epoch."""
        self._apply_masks()

    def on_epoch_end(self, epoch: int, optimizer: Optimizer, validation: Scores) -> None:  # noqa: ARG002
        """Set the learning rate of the next epoch, if an LR policy fires in this one."""
        self._optimizer = optimizer
        for policy in self._schedule.of_kind("lr_scheduler"):
            rates = self._rates[policy.entry.name]
            if epoch in policy.epochs and epoch + 1 < len(rates):
                for group in optimizer.param_groups:
                    group["lr"] = rates[epoch + 1]

    def _compute_masks(self, entry: Entry) -> None:
        pruner = entry.arguments
        assert isinstance(pruner, RankedStructurePruner)
        norm: Norm = "L1" if entry.class_name.startswith("L1") else "L2"
        dim = 0 if pruner.side == "filters" else 1
        parameters = dict(self._model.named_parameters())
        names = [resolve_name(name, parameters) or name for name in pruner.weights]
        leader = names[0] if pruner.group_dependency == "Leader" else None
        for name in names:
            mask = keep_mask(parameters[leader or name], pruner.side, norm, pruner.desired_sparsity)
            if not mask.all():  # nothing to remove: an older mask stays
                self._masks[name] = (dim, mask)

    def _apply_masks(self) -> None:
        parameters = dict(self._model.named_parameters())
        with torch.no_grad():
            for name, (dim, mask) in self._masks.items():
                shape = [1] * parameters[name].dim()
                shape[dim] = -1
                parameters[name].mul_(mask.view(shape).to(parameters[name].device))

    def _thin(self, remover: Remover) -> None:
        example_NCHW = self._example_NCHW.to(next(self._model.parameters()).device)
        spaces = self._spaces or trace_channel_spaces(self._model, example_NCHW)
        side: Side = "filters" if remover.thinning_func_str == "remove_filters" else "channels"
        thinned = thin(self._model, spaces, side, example_NCHW, self._optimizer)
        for name, indices in thinned.kept.items():
            if name in self.kept:
                self.kept[name] = tuple(self.kept[name][i] for i in indices.tolist())
        self._spaces = thinned.spaces
        trimmed = {name: (dim, self._trimmed(name, dim, mask)) for name, (dim, mask) in self._masks.items()}
        self._masks = {name: (dim, mask) for name, (dim, mask) in trimmed.items() if not mask.all()}

    def _trimmed(self, name: str, dim: int, mask: Tensor) -> Tensor:
        """Return a mask for what thinning has left of a parameter: what was masked, and is still there, is zero."""
        weight = self._model.get_parameter(name).detach()
        if weight.shape[dim] == len(mask):
            return mask
        return weight.transpose(0, dim).flatten(1).abs().sum(1) != 0


def _lr_arguments(entry: Entry) -> dict[str, object]:
    assert not isinstance(entry.arguments, RankedStructurePruner | Remover)
    return dict(entry.arguments)
