"""Models by name, and their weights."""

from secateur.models.registry import create_model, default_input_size, default_num_classes, known_models
from secateur.models.weights import load_state, load_weights, num_classes_of

__all__ = [
    "create_model",
    "default_input_size",
    "default_num_classes",
    "known_models",
    "load_state",
    "load_weights",
    "num_classes_of",
]
