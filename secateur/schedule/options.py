"""`args` of a policy (SPEC 2.2)."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from secateur.methods.elementwise import Levels


class PruningOptions(BaseModel):
    """How a pruner's masks are used while its policy acts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: Levels | None = None
    """Instead of the pruner's own."""
    mask_on_forward_only: bool = False
    """Masked weights may change in the optimizer's step, and are masked again before the next forward pass."""
    mask_gradients: bool = False
    """Masked weights get no gradient."""
    keep_mask: bool = False
    """In the end, mask for good."""
    use_double_copies: bool = False
    """The optimizer's step acts on the weights as they were before masking."""
    mini_batch_pruning_frequency: Annotated[int, Field(ge=0)] = 0
    """Choose anew at every minibatch, counted from the first epoch's, that is a multiple; 0: once an epoch."""
    discard_masks_at_minibatch_end: bool = False
    """Forget all masks after every minibatch."""
    skip_first_minibatch: bool = False
    """Choose for the first time before the second minibatch of training."""
    fold_batchnorm: bool = False
    """Rank convolutions as if they had the scale of the batch normalisation that follows."""

    @model_validator(mode="after")
    def _masks_gradients_of_free_weights(self) -> Self:
        if self.mask_gradients and not self.mask_on_forward_only:
            raise ValueError("mask_gradients needs 'mask_on_forward_only: true' beside it")
        return self


class RegularizationOptions(BaseModel):
    """How a regularizer's thresholding is used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_mask: bool = False
    """What is below the threshold after the last minibatch stays at zero for good."""


class NoOptions(BaseModel):
    """Extensions and LR schedulers have none (Distiller ignores what is written)."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Options = PruningOptions | RegularizationOptions | NoOptions
