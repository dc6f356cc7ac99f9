"""The masks of a network, and how they are applied (SPEC 2 and 3)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class Masks:
    """What is kept at zero, for every parameter of a network.

    Attributes:
        masks: Parameter -> bool tensor of its shape, True = keep; absent: nothing is masked.
        on_forward_only: Masked weights may change in the optimizer's step.
        of_gradients: Masked weights get no gradient.
        with_copies: The optimizer's step acts on the weights as they were before masking.
    """

    def __init__(self, model: nn.Module) -> None:
        self.masks: dict[str, Tensor] = {}
        self.on_forward_only = False
        self.of_gradients = False
        self.with_copies = False
        self._model = model
        self._copies: dict[str, Tensor] = {}

    def mask_for_forward(self) -> None:
        """Set masked weights to zero before a forward pass, and keep a copy, if the optimizer is to see it."""
        for name, parameter, mask in self._masked():
            if self.with_copies:
                self._copies.setdefault(name, parameter.detach().clone())
            parameter.data.mul_(mask)

    def mask(self) -> None:
        """Set masked weights to zero."""
        for _, parameter, mask in self._masked():
            parameter.data.mul_(mask)

    def before_step(self) -> None:
        """Mask gradients, and put the weights back of which there are copies."""
        if self.of_gradients:
            for _, parameter, mask in self._masked():
                if parameter.grad is not None:
                    parameter.grad.mul_(mask)
        for name, copy in self._copies.items():
            self._model.get_parameter(name).data.copy_(copy)
        self._copies.clear()

    def after_step(self) -> None:
        """Set to zero again what the step has changed."""
        if not self.on_forward_only:
            self.mask()

    def keep_for_good(self) -> None:
        """Mask now, and after every step from now on."""
        self.with_copies = self.on_forward_only = False
        self.mask()

    def follow_thinning(self) -> None:
        """Fit masks to parameters that have become smaller: what was masked, and is still there, is zero."""
        for name, mask in list(self.masks.items()):
            parameter = self._model.get_parameter(name)
            if parameter.shape != mask.shape:
                self.masks[name] = parameter.detach() != 0
                self._copies.pop(name, None)
        self.masks = {name: mask for name, mask in self.masks.items() if not mask.all()}

    def forget_all_but(self, names: Collection[str]) -> None:
        """Forget the masks of parameters that the network has lost."""
        self.masks = {name: mask for name, mask in self.masks.items() if name in names}
        self._copies = {name: copy for name, copy in self._copies.items() if name in names}

    def state_dict(self) -> dict[str, Any]:
        """Return all that matters between two minibatches."""
        return {"masks": self.masks, "options": [self.on_forward_only, self.of_gradients, self.with_copies]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the masks that `state_dict` returned."""
        self.masks = dict(state["masks"])
        self.on_forward_only, self.of_gradients, self.with_copies = state["options"]

    def _masked(self) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
        with torch.no_grad():
            for name, mask in self.masks.items():
                parameter = self._model.get_parameter(name)
                yield name, parameter, mask.to(parameter.device)
