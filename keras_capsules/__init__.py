"""Capsule networks for Keras 3, on TensorFlow, JAX and PyTorch."""

import importlib

from keras_capsules import (
    callbacks,
    config,
    files,
    layers,
    losses,
    metrics,
    models,
    ops,
    robustness,
    routing,
    testing,
)

__version__ = "0.1.0"

__all__ = [
    "callbacks",
    "config",
    "datasets",
    "export",
    "files",
    "layers",
    "losses",
    "metrics",
    "models",
    "ops",
    "plotting",
    "robustness",
    "routing",
    "testing",
]


def __getattr__(name):
    # These modules import TensorFlow or matplotlib, which the layers do not need.
    if name in ("datasets", "export", "plotting"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError(
                f"{__name__}.{name} needs {error.name}: "
                'pip install "keras_capsules[examples]"'
            ) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
