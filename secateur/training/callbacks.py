"""The moments of training at which a compression schedule acts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor
from torch.optim import Optimizer

from secateur.training.outcomes import Evaluation


class Callbacks(Protocol):
    """Called by `train` in this order (Distiller's driver loop).

    ::

        on_training_begin
        for each epoch:
            on_epoch_begin
            for each minibatch:
                on_minibatch_begin, forward, before_backward, backward,
                before_optimizer_step, optimizer step, on_minibatch_end
            evaluate on validation images
            on_epoch_end

    Whatever they raise ends the training and reaches its caller.
    """

    def on_training_begin(self, optimizer: Optimizer) -> None:
        """Act before the first epoch: the place to set its learning rate in `optimizer`."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Act before epoch `epoch`, counted from 0."""

    def on_minibatch_begin(self, epoch: int, minibatch: int, num_minibatches: int) -> None:
        """Act before the forward pass: the network may be masked, and even made smaller, here.

        The momentum of a parameter that has been replaced or resized starts anew.
        """

    def before_backward(self, loss: Tensor) -> Tensor:
        """Return the loss to descend on: `loss` and any regularisation.

        Called once a minibatch; where gradients are accumulated, or processes train together, with the loss of its
        first part.
        """

    def before_optimizer_step(self) -> None:
        """Act when gradients are there and weights still unchanged."""

    def on_minibatch_end(self, epoch: int, minibatch: int, num_minibatches: int) -> None:
        """Act after the optimizer's step."""

    def on_epoch_end(self, epoch: int, optimizer: Optimizer, validation: Evaluation) -> None:
        """Act after the evaluation: the place to set the next epoch's learning rate in `optimizer`."""

    def state_dict(self) -> dict[str, Any]:
        """Return, between two epochs, what outlives a kill: numbers, texts, tensors, and lists and dicts of them."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was called; what was made smaller by then must have its shapes again afterwards.

        Called after `on_training_begin`; the weights are loaded next.
        """


class NoCallbacks(Callbacks):
    """Training without a schedule; also a base for callbacks that need few of the moments."""

    def on_training_begin(self, optimizer: Optimizer) -> None:
        """Do nothing."""

    def on_epoch_begin(self, epoch: int) -> None:
        """Do nothing."""

    def on_minibatch_begin(self, epoch: int, minibatch: int, num_minibatches: int) -> None:
        """Do nothing."""

    def before_backward(self, loss: Tensor) -> Tensor:
        """Return the loss as it is."""
        return loss

    def before_optimizer_step(self) -> None:
        """Do nothing."""

    def on_minibatch_end(self, epoch: int, minibatch: int, num_minibatches: int) -> None:
        """Do nothing."""

    def on_epoch_end(self, epoch: int, optimizer: Optimizer, validation: Evaluation) -> None:
        """Do nothing."""

    def state_dict(self) -> dict[str, Any]:
        """Return that there is nothing to keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Do nothing."""
