"""What the tests share: golden files, gradients on each backend, small networks."""

from pathlib import Path

import keras
import numpy as np
import pytest

from keras_capsules import losses, models, routing

GOLDEN = Path(__file__).parent / "golden"
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
once = pytest.mark.skipif(
    keras.backend.backend() != "torch",
    reason="the same on every backend: once, where nothing is compiled",
)


def golden(name):
    """The arrays of a golden file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def float32(*arrays):
    return [np.asarray(array, "float32") for array in arrays]


def close(actual, expected, rtol=1e-4, atol=1e-6):
    actual, expected = (
        keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))
        for x in (actual, expected)
    )
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)


def finite(*tensors):
    return all(
        np.isfinite(keras.ops.convert_to_numpy(keras.ops.cast(x, "float32"))).all()
        for x in tensors
    )


def gradients(function, *arrays, weights=1.0):
    """Gradients of the sum of `function(*arrays) * weights`, on any backend."""
    backend = keras.backend.backend()
    tensors = [keras.ops.convert_to_tensor(array) for array in arrays]

    def total(*tensors):
        outputs = function(*tensors)
        return keras.ops.sum(outputs * keras.ops.cast(weights, outputs.dtype))

    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensors)
            value = total(*tensors)
        found = tape.gradient(value, tensors)
    elif backend == "jax":
        import jax

        found = jax.grad(total, tuple(range(len(tensors))))(*tensors)
    else:
        leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
        total(*leaves).backward()
        found = [leaf.grad for leaf in leaves]
    return [keras.ops.convert_to_numpy(gradient) for gradient in found]


def hessian_product(function, arrays, directions):
    """The Hessian of the sum of a function times directions, on any backend."""
    backend = keras.backend.backend()
    tensors, directions = (
        [keras.ops.convert_to_tensor(x) for x in xs] for xs in (arrays, directions)
    )

    def along(found):
        pairs = zip(found, directions, strict=True)
        return sum(keras.ops.sum(x * d) for x, d in pairs)

    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as outer:
            outer.watch(tensors)
            with tf.GradientTape() as inner:
                inner.watch(tensors)
                total = keras.ops.sum(function(*tensors))
            total = along(inner.gradient(total, tensors))
        found = outer.gradient(total, tensors)
    elif backend == "jax":
        import jax

        # Forward over reverse, as `jax.hessian` does; compiled, for it is quicker.
        slopes = jax.grad(
            lambda *x: keras.ops.sum(function(*x)), tuple(range(len(tensors)))
        )
        product = jax.jit(lambda *x: jax.jvp(slopes, x, tuple(directions))[1])
        found = product(*tensors)
    else:
        import torch

        leaves = [x.detach().clone().requires_grad_() for x in tensors]
        total = keras.ops.sum(function(*leaves))
        slopes = torch.autograd.grad(total, leaves, create_graph=True)
        found = torch.autograd.grad(along(slopes), leaves)
    return [keras.ops.convert_to_numpy(x) for x in found]


def slope(function, arrays, directions, step=1e-6):
    """Derivative of a float64 function along `directions`, by differences."""
    ahead = function(*(x + step * d for x, d in zip(arrays, directions, strict=True)))
    behind = function(*(x - step * d for x, d in zip(arrays, directions, strict=True)))
    return (np.sum(ahead) - np.sum(behind)) / (2.0 * step)


def check_gradients(function, expected, arrays, weights=1.0):
    """Gradients by each array, against differences of the reference in float64.

    Args:
        function: function of float32 tensors.
        expected: the same function of the float64 arrays, as a reference has it.
        arrays: where to take the gradients.
        weights: what the values of both are multiplied by before they are summed.
    """
    rng = np.random.default_rng(1)
    found = gradients(function, *float32(*arrays), weights=weights)
    for index, (array, gradient) in enumerate(zip(arrays, found, strict=True)):
        direction = rng.normal(size=array.shape)

        def moved(x, index=index):
            return expected(*arrays[:index], x, *arrays[index + 1 :]) * weights

        # A gradient times a random direction is about as large as the gradient.
        tolerance = 1e-3 * float(np.linalg.norm(gradient))
        wanted = float(slope(moved, [array], [direction]))
        actual = float(np.sum(gradient * direction))
        assert actual == pytest.approx(wanted, rel=0.0, abs=tolerance), index


def compiled(model, loss):
    """Compiles a network.

    TensorFlow takes longer to trace a step than to run a few: they run eagerly. Tests
    of many steps set `run_eagerly` to False.
    """
    model.compile(
        keras.optimizers.Adam(0.01),
        loss=loss,
        metrics=["accuracy"],
        run_eagerly=keras.backend.backend() == "tensorflow",
    )
    return model


def small_capsnet(image_shape=(16, 14, 1), classes=3, **kwargs):
    """A network like the paper's, small enough to train in a test."""
    settings = {
        "filters": 4,
        "kernel_size": 5,
        "primary_capsules": 2,
        "primary_pose_shape": 4,
        "class_pose_shape": 6,
        "decoder_units": (8,),
    }
    model = models.CapsNet(image_shape, classes, **{**settings, **kwargs})
    return compiled(model, losses.MarginLoss())


def small_efficient_capsnet(image_shape=(16, 14, 1), classes=3, **kwargs):
    """A network like the paper's, small enough to train in a test."""
    settings = {
        "filters": (4, 5),
        "primary_capsules": 3,
        "primary_pose_shape": 4,
        "class_pose_shape": 6,
        "decoder_units": (8,),
    }
    model = models.EfficientCapsNet(image_shape, classes, **{**settings, **kwargs})
    return compiled(model, losses.MarginLoss())


def small_matrix_capsnet(image_shape=(20, 19, 1), classes=3, **kwargs):
    """The same for the second paper, with two iterations.

    Each of them is compiled into a step; the second sees what the first has moved.
    """
    kwargs.setdefault("routing", routing.EMRouting(2))
    model = models.MatrixCapsNet(image_shape, classes, (6, 2, 3, 3), **kwargs)
    return compiled(model, losses.SpreadLoss(0.5))


def random_images(count, image_shape=(16, 14, 1), classes=3, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.random((count, *image_shape), dtype="float32")
    return images, rng.integers(0, classes, count)


def all_examples(dataset):
    """The images and the labels of a data set, as two arrays."""
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.stack(labels)
