"""Methods of compression that a schedule may name: each with its arguments, their check, and what it does."""

from secateur.methods.blocks import ResidualBlockRemover
from secateur.methods.learning_rates import LR_SCHEDULERS, argument_problems, lr_sequence, sequence_problems
from secateur.methods.method import Activations, Chance, Epochs, Method, Moment, ParameterMethod, Pruner, Shapes
from secateur.methods.names import layer_of, own_names
from secateur.methods.ranked import RankedStructurePruner
from secateur.methods.ranking import Norm, Side, count_removed, keep_mask, sparsity_leaving
from secateur.methods.registry import KINDS, METHODS, REFUSED, Kind
from secateur.methods.regularizers import Regularizer
from secateur.methods.removers import Remover

__all__ = [
    "KINDS",
    "LR_SCHEDULERS",
    "METHODS",
    "REFUSED",
    "Activations",
    "Chance",
    "Epochs",
    "Kind",
    "Method",
    "Moment",
    "Norm",
    "ParameterMethod",
    "Pruner",
    "RankedStructurePruner",
    "Regularizer",
    "Remover",
    "ResidualBlockRemover",
    "Shapes",
    "Side",
    "argument_problems",
    "count_removed",
    "keep_mask",
    "layer_of",
    "lr_sequence",
    "own_names",
    "sequence_problems",
    "sparsity_leaving",
]
