"""Run a compression schedule on a model, at the moments of the training loop (SPEC section 2)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.errors import ScheduleError, ThinningError
from secateur.methods import (
    Chance,
    Moment,
    ParameterMethod,
    Pruner,
    RankedStructurePruner,
    Regularizer,
    Remover,
    ResidualBlockRemover,
    Side,
    layer_of,
)
from secateur.methods.elementwise import LevelPruner
from secateur.methods.filters import FilterPruner
from secateur.pruning.coupling import coupling_problems
from secateur.pruning.learning_rates import LearningRates
from secateur.pruning.masks import Masks
from secateur.pruning.observation import ActivationObserver, folded, following_norms
from secateur.schedule import Policy, PruningOptions, RegularizationOptions, Schedule
from secateur.thinning import (
    ChannelSpace,
    all_filters,
    choose_blocks,
    find_residual_blocks,
    remove_blocks,
    replace_by_identity,
    resize_like,
    spaces_without,
    thin,
    trace_channel_spaces,
    unprunable,
    whole_units,
)
from secateur.training import Evaluation


class ScheduleEngine:
    """Prunes, masks, thins, regularizes and sets learning rates as a schedule says; the trainer's callbacks.

    Masks are computed when an epoch begins, and applied when its first minibatch does: so all pruners of an epoch see
    the weights as they were. They are applied again after every optimizer step. Two pruners on one weight do not
    intersect: the later wins.

    Attributes:
        kept: Convolution -> indices, into its filters before any pruning, of those it still has.
        removed_blocks: Residual blocks that are an identity now.
        skipped: Parameters that were left alone although a pruner names them -> why.
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
        seed: int = 0,
        skip_unprunable: bool = False,
        block_importance: Callable[[str], float] | None = None,
    ) -> None:
        """Prepare to run `schedule` on `model`.

        Args:
            model: Changed in place as the schedule says.
            schedule: Checked against the model (`check_fit`).
            example_NCHW: An input the model accepts.
            base_lr: Learning rate that LR schedulers start from.
            num_epochs: Epochs of training.
            spaces: The model's channel spaces, if they are known already.
            seed: Of pruners that draw.
            skip_unprunable: Leave layers alone that cannot be thinned safely, instead of refusing them.
            block_importance: Tells how important a residual block is; see `choose_blocks`.

        Raises:
            ScheduleError: Something is to be thinned after epoch 0 that cannot be.
            ThinningError: The network cannot be traced.
        """
        self.kept = all_filters(model)
        self.removed_blocks: tuple[str, ...] = ()
        self.skipped: dict[str, str] = {}
        self._model = model
        self._schedule = schedule
        self._example_NCHW = example_NCHW
        self._spaces = spaces
        self._skip_unprunable = skip_unprunable
        self._block_importance = block_importance
        self._chance = Chance(seed=seed)
        self._optimizer: Optimizer | None = None
        """Known once training began; its momentum is trimmed when the network is thinned."""
        self._masks = Masks(model)
        names = [name for name, _ in model.named_parameters()]
        methods = {name: entry.arguments for name, entry in schedule.entries.items()}
        self._methods = {
            name: method.for_model(names) for name, method in methods.items() if isinstance(method, ParameterMethod)
        }
        self._memories: dict[str, dict[str, Any]] = {name: {} for name in self._methods}
        self._started: set[int] = set()
        """Policies, by place in the schedule, that acted in an earlier epoch."""
        self._epoch = 0
        self._is_pruned_before_training = False
        self._norms: dict[str, str] | None = None
        self._check_what_is_thinned_later(num_epochs)
        self._num_epochs = num_epochs
        self._observer = self._observe()
        self._rates = LearningRates(schedule, base_lr, num_epochs)

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """Parameter -> bool tensor of its shape, False = kept at zero, since it is not removed, or not yet."""
        return self._masks.masks

    @property
    def model(self) -> nn.Module:
        """The network that the schedule changes."""
        return self._model

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """Of each epoch, as far as it is known before training: plateaus are left out."""
        return self._rates.planned()

    def prune_before_training(self) -> None:
        """Do what the schedule says for the first minibatch of epoch 0; training then goes on from there.

        Raises:
            ThinningError: What was pruned cannot be removed.
            ScheduleError: Thinning has left a layer that a pruner cannot prune as it says.
            TrainingError: Weights are NaN, or are to be ranked by what only training shows.
        """
        self.on_epoch_begin(0)
        self.on_minibatch_begin(0, 0, 1)
        self._is_pruned_before_training = True

    def on_training_begin(self, optimizer: Optimizer) -> None:
        """Set the learning rate of epoch 0, where an LR scheduler begins with another one (a warm-up)."""
        self._optimizer = optimizer
        self._rates.begin(optimizer)
        if self._observer is not None:
            self._observer.forget()  # what was evaluated or recalibrated before

    def on_epoch_begin(self, epoch: int) -> None:
        """Compute the masks of this epoch's pruners."""
        self._epoch = epoch
        if epoch == 0 and self._is_pruned_before_training:
            return
        for index, policy in self._acting(epoch):
            if not isinstance(options := policy.options, PruningOptions):
                continue
            is_first = index not in self._started
            self._started.add(index)
            if is_first:
                self._masks.on_forward_only = options.mask_on_forward_only
                self._masks.of_gradients = options.mask_gradients
                self._masks.with_copies = options.use_double_copies
            if not (is_first and options.skip_first_minibatch):
                self._choose(policy, epoch)
        if self._observer is not None:
            self._observer.forget()
            self._observer.is_paused = False

    def on_minibatch_begin(self, epoch: int, minibatch: int, num_minibatches: int) -> None:
        """Apply masks, and thin once an epoch, in the order of the policies."""
        if epoch == minibatch == 0 and self._is_pruned_before_training:
            return
        self._epoch = epoch
        for _, policy in self._acting(epoch):
            if isinstance(policy.options, PruningOptions):
                if _chooses_again(policy.options, epoch, minibatch, num_minibatches):
                    self._choose(policy, epoch)
                self._masks.mask_for_forward()
            elif isinstance(policy.entry.arguments, Remover) and minibatch == 0:
                self._thin(policy.entry.arguments)

    def before_backward(self, loss: Tensor) -> Tensor:
        """Return the loss to minimise: with that of this epoch's regularizers."""
        for _, policy in self._acting(self._epoch):
            method = self._methods.get(policy.entry.name)
            if isinstance(method, Regularizer):
                loss = loss + method.loss(dict(self._model.named_parameters()))
        return loss

    def before_optimizer_step(self) -> None:
        """Let the optimizer see what the masks' options say: masked gradients, unmasked weights."""
        self._masks.before_step()

    def on_minibatch_end(self, epoch: int, minibatch: int, num_minibatches: int) -> None:
        """Keep masked weights at zero, in every epoch; set to zero what regularizers have made small."""
        self._masks.after_step()
        for _, policy in self._acting(epoch):
            if isinstance(policy.options, PruningOptions) and policy.options.discard_masks_at_minibatch_end:
                self._masks.masks.clear()
            elif isinstance(options := policy.options, RegularizationOptions):
                is_last = epoch == policy.last_epoch and minibatch == num_minibatches - 1
                self._set_small_to_zero(policy, is_for_good=options.keep_mask and is_last)
        if self._observer is not None and minibatch == num_minibatches - 1:
            self._observer.is_paused = True  # the epoch's evaluation follows, whose images choose no filters

    def on_epoch_end(self, epoch: int, optimizer: Optimizer, validation: Evaluation) -> None:
        """End policies; set the learning rate of the next epoch, if an LR policy fires in this one."""
        self._optimizer = optimizer
        for _, policy in self._acting(epoch):
            if isinstance(policy.options, PruningOptions) and epoch == policy.last_epoch:
                self._masks.of_gradients = False
                if policy.options.keep_mask:
                    self._masks.keep_for_good()
            elif policy.entry.kind == "lr_scheduler":
                self._rates.step(policy, epoch, optimizer, validation)
        if self._observer is not None and epoch == self._num_epochs - 1:
            self._observer.close()  # the network goes on without hooks
            self._observer = None

    def state_dict(self) -> dict[str, Any]:
        """Return what pruners, masks and learning rates have become, and the shapes of the network."""
        needs_gradients = any(isinstance(m, Pruner) and "gradients" in m.needs for m in self._methods.values())
        parameters = self._model.named_parameters() if needs_gradients else ()
        return {
            "kept": self.kept,
            "removed_blocks": self.removed_blocks,
            "skipped": self.skipped,
            "shapes": {name: list(tensor.shape) for name, tensor in self._model.state_dict().items()},
            "masks": self._masks.state_dict(),
            "memories": self._memories,
            "started": sorted(self._started),
            "chance": self._chance.state_dict(),
            "gradients": {name: parameter.grad for name, parameter in parameters if parameter.grad is not None},
            "activations": None if self._observer is None else self._observer.state_dict(),
            "rates": self._rates.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on in the middle of a training, with a model and a schedule as they were before it."""
        replace_by_identity(self._model, set(state["removed_blocks"]) - set(self.removed_blocks))
        resize_like(self._model, {n: torch.empty(shape, device="meta") for n, shape in state["shapes"].items()})
        parameters = dict(self._model.named_parameters())
        self._methods = {name: method.among(parameters) for name, method in self._methods.items()}
        self._spaces = self._norms = None  # traced again, if they are asked for
        self.kept = {name: tuple(indices) for name, indices in state["kept"].items()}
        self.removed_blocks = tuple(state["removed_blocks"])
        self.skipped = dict(state["skipped"])
        self._masks.load_state_dict(state["masks"])
        self._memories = dict(state["memories"])
        self._started = set(state["started"])
        self._chance.load_state_dict(state["chance"])
        for name, gradient in state["gradients"].items():
            parameters[name].grad = gradient.to(parameters[name].device)
        if self._observer is not None:
            self._observer.load_state_dict(state["activations"])
        assert self._optimizer is not None, "training has begun"
        self._rates.load_state_dict(state["rates"], self._optimizer)

    def _acting(self, epoch: int) -> list[tuple[int, Policy]]:
        """Return the policies of an epoch, in order, each with its place in the schedule."""
        return [(index, policy) for index, policy in enumerate(self._schedule.policies) if epoch in policy.epochs]

    def _choose(self, policy: Policy, epoch: int) -> None:
        """Compute the masks of one pruner from the weights as they are now, or remove residual blocks."""
        if isinstance(policy.entry.arguments, ResidualBlockRemover):
            self._remove_blocks(policy.entry.arguments)
            return
        pruner, options = self._methods[policy.entry.name], policy.options
        assert isinstance(pruner, Pruner)
        if not pruner.named:
            return  # all it named went with residual blocks
        assert isinstance(options, PruningOptions)
        if options.levels is not None:
            pruner = LevelPruner(levels=options.levels).for_model([n for n, _ in self._model.named_parameters()])
        shapes = {name: tuple(parameter.shape) for name, parameter in self._model.named_parameters()}
        if problems := pruner.problems(shapes, "the model"):  # thinning may have left what cannot be divided
            what = f"{policy.entry.place}: pruner {policy.entry.name!r}, in epoch {epoch}"
            raise ScheduleError(*(f"{what}: {problem}" for problem in problems))
        weights = {name: parameter.detach() for name, parameter in self._model.named_parameters()}
        if options.fold_batchnorm:
            weights |= folded(self._model, self._following_norms())
        moment = Moment(
            epoch=epoch,
            epochs=policy.epochs,
            weights=weights,
            gradients={n: p.grad.detach() for n, p in self._model.named_parameters() if p.grad is not None},
            activations={} if self._observer is None else self._observer.activations,
            masks={name: mask.to(weights[name].device) for name, mask in self._masks.masks.items() if name in weights},
            memory=self._memories[policy.entry.name],
            chance=self._chance,
        )
        masks = pruner.masks(moment)
        if (side := self._side_removed_of(pruner)) is not None:
            masks = self._removable(masks, weights, side)
        self._masks.masks.update(masks)

    def _side_removed_of(self, pruner: Pruner) -> Side | None:
        """Return what this pruner prunes whole, if the schedule also removes it."""
        if not isinstance(pruner, RankedStructurePruner | FilterPruner) or not pruner.removes_structures:
            return None
        if isinstance(pruner, RankedStructurePruner) and pruner.kwargs is not None:
            return None  # blocks are smaller than filters
        removers = [policy.entry.arguments for policy in self._schedule.of_kind("extension")]
        return pruner.side if any(isinstance(r, Remover) and pruner.side in r.sides for r in removers) else None

    def _removable(self, masks: Mapping[str, Tensor], weights: Mapping[str, Tensor], side: Side) -> dict[str, Tensor]:
        """Return masks of what can be removed: whole groups, and of no layer that cannot lose any."""
        reasons = unprunable(self._known_spaces(), side)
        hindered = {name: reason for name in masks if (reason := reasons.get(layer_of(name))) is not None}
        for name, reason in hindered.items():
            if not self._skip_unprunable:
                raise ThinningError(
                    f"Layer {layer_of(name)!r} cannot lose {side}: {reason}. Take it out of the schedule."
                )
            self.skipped[name] = reason
        possible = {name: mask for name, mask in masks.items() if name not in hindered}
        return whole_units(possible, weights, self._known_spaces(), side)

    def _set_small_to_zero(self, policy: Policy, *, is_for_good: bool) -> None:
        regularizer = self._methods[policy.entry.name]
        assert isinstance(regularizer, Regularizer)
        if not regularizer.has_threshold:
            return
        for name, keep in regularizer.threshold_masks(dict(self._model.named_parameters())):
            self._model.get_parameter(name).data.mul_(keep)
            if is_for_good:
                self._masks.masks[name] = keep & self._masks.masks.get(name, keep).to(keep.device)

    def _remove_blocks(self, remover: ResidualBlockRemover) -> None:
        blocks = find_residual_blocks(self._model, self._example())
        going = choose_blocks(self._model, blocks, remover.keep, self._block_importance)
        if not going:
            return
        remove_blocks(self._model, going, self._example())
        self.removed_blocks += going
        left = all_filters(self._model)
        self.kept = {name: kept if name in left else () for name, kept in self.kept.items()}
        if self._spaces is not None:
            self._spaces = spaces_without(self._spaces, going)
        parameters = dict(self._model.named_parameters())
        self._methods = {name: method.among(parameters) for name, method in self._methods.items()}
        self._masks.forget_all_but(parameters)
        self._norms = None

    def _thin(self, remover: Remover) -> None:
        with contextlib.nullcontext() if self._observer is None else self._observer.paused():
            for side in remover.sides:
                thinned = thin(self._model, self._known_spaces(), side, self._example(), self._optimizer)
                for name, indices in thinned.kept.items():
                    if name in self.kept:
                        self.kept[name] = tuple(self.kept[name][i] for i in indices.tolist())
                self._spaces = thinned.spaces
        self._masks.follow_thinning()

    def _check_what_is_thinned_later(self, num_epochs: int) -> None:
        """Refuse what cannot be thinned in the middle of a training, hours later; epoch 0 comes before it anyway.

        Where residual blocks go first, nobody knows yet which layers will share their channels.
        """
        extensions = self._schedule.of_kind("extension")
        is_later = any(policy.acts_within(range(1, num_epochs)) for policy in extensions)
        removes_blocks = any(isinstance(e.arguments, ResidualBlockRemover) for e in self._schedule.entries.values())
        if not is_later or removes_blocks:
            return
        if problems := coupling_problems(self._schedule, self._methods, self._known_spaces(), num_epochs):
            raise ScheduleError(*problems)

    def _known_spaces(self) -> Sequence[ChannelSpace]:
        if self._spaces is None:
            self._spaces = trace_channel_spaces(self._model, self._example())
        return self._spaces

    def _observe(self) -> ActivationObserver | None:
        pruners = [self._methods.get(policy.entry.name) for policy in self._schedule.of_kind("pruner")]
        needing = [pruner for pruner in pruners if isinstance(pruner, Pruner) and "activations" in pruner.needs]
        layers = {layer_of(name) for pruner in needing for name in pruner.named}
        return ActivationObserver(self._model, layers, self._following_norms()) if layers else None

    def _following_norms(self) -> dict[str, str]:
        if self._norms is None:
            self._norms = following_norms(self._model, self._example())
        return self._norms

    def _example(self) -> Tensor:
        return self._example_NCHW.to(next(self._model.parameters()).device)


def _chooses_again(options: PruningOptions, epoch: int, minibatch: int, num_minibatches: int) -> bool:
    """Tell whether masks are computed in the middle of an epoch (SPEC 2.2)."""
    number, frequency = epoch * num_minibatches + minibatch, options.mini_batch_pruning_frequency
    is_due = minibatch > 0 and frequency != 0 and number % frequency == 0
    return is_due or (options.skip_first_minibatch and number == 1)
