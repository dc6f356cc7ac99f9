"""secateur: pruning shears for neural networks, guided by the device itself."""

__version__ = "0.1.0"
