"""Routing with kernels for a GPU, interpreted on a processor, is what it is without."""

import keras
import numpy as np
import pytest
from helpers import close, gradients

from keras_capsules import config, layers
from keras_capsules._backend import fused, programs

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    pytest.skip("there are no kernels for TensorFlow", allow_module_level=True)
if BACKEND == "torch":
    pytest.importorskip("triton")


@pytest.fixture
def on_a_gpu(monkeypatch):
    """Kernels are chosen, and run without a GPU."""
    if not fused._has_a_gpu():
        if BACKEND == "jax":
            from keras_capsules._backend import pallas_calls

            monkeypatch.setattr(pallas_calls, "INTERPRET", True)
        monkeypatch.setattr(programs, "COMPILER", "aot_eager")
        monkeypatch.setattr(fused, "_has_a_gpu", lambda: True)
    yield
    config.set_fused_kernels(False)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (layers.DigitCapsule(3, 5), (3, 6, 4)),
        (layers.DigitCapsule(3, 5, routing="inverted_attention"), (3, 6, 4)),
        (layers.ConvCapsule(3, kernel_size=2), (2, 3, 3, 2, 4, 4)),
        (
            layers.ConvCapsule(3, kernel_size=2, routing="variational_bayes"),
            (1, 3, 3, 2, 4, 4),
        ),
    ],
    ids=["dynamic", "inverted attention", "em", "variational bayes"],
)
def test_outputs_and_gradients(layer, shape, on_a_gpu):
    rng = np.random.default_rng(0)
    poses = rng.normal(size=shape).astype("float32")
    activations = rng.uniform(0.1, 0.9, size=shape[:-2]).astype("float32")
    layer.build([poses.shape, activations.shape])
    kernel = keras.ops.convert_to_numpy(layer.kernel)

    def outputs(poses, kernel):
        with keras.StatelessScope([(layer.kernel, kernel)]):
            found = layer((poses, activations)) if len(shape) > 3 else layer(poses)
        return keras.ops.concatenate(
            [keras.ops.reshape(x, (-1,)) for x in keras.tree.flatten(found)]
        )

    found = []
    for enabled in (False, True):
        config.set_fused_kernels(enabled)
        values = outputs(*map(keras.ops.convert_to_tensor, (poses, kernel)))
        weights = np.random.default_rng(1).normal(size=values.shape)
        found.append((values, *gradients(outputs, poses, kernel, weights=weights)))
    for expected, actual in zip(*found, strict=True):
        scale = float(keras.ops.max(keras.ops.abs(expected)))
        close(actual, expected, atol=1e-5 * scale)
