import keras
import numpy as np
import pytest
from helpers import close, gradients, hessian_product
from keras import ops

from keras_capsules._backend import Conv2D, convolutions, strided_convolution
from keras_capsules._backend.convolutions import convolution_over_blocks


@pytest.mark.parametrize("convolution", [strided_convolution, convolution_over_blocks])
@pytest.mark.parametrize(
    "size, window, strides",
    [
        ((9, 8), (3, 3), (2, 2)),
        ((10, 11), (3, 2), (3, 2)),  # pixels are left over
        ((7, 7), (7, 5), (2, 1)),
    ],
)
def test_values_and_gradients_are_those_of_a_convolution(
    size, window, strides, convolution
):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, *size, 3)).astype("float32")
    kernel = rng.normal(size=(*window, 3, 4)).astype("float32")

    def plain(images, kernel):
        rows, columns = (
            (n - k) // s + 1 for n, k, s in zip(size, window, strides, strict=True)
        )
        parts = [
            ops.tensordot(
                images[
                    :,
                    strides[0] * i : strides[0] * i + window[0],
                    strides[1] * j : strides[1] * j + window[1],
                ],
                kernel,
                3,
            )
            for i in range(rows)
            for j in range(columns)
        ]
        return ops.reshape(ops.stack(parts, axis=1), (2, rows, columns, 4))

    def strided(images, kernel):
        return convolution(images, kernel, strides)

    expected = plain(images, kernel)
    close(strided(images, kernel), expected)
    weights = rng.normal(size=expected.shape).astype("float32")
    pairs = zip(
        gradients(strided, images, kernel, weights=weights),
        gradients(plain, images, kernel, weights=weights),
        strict=True,
    )
    for ours, theirs in pairs:
        close(ours, theirs, atol=1e-4)


@pytest.mark.parametrize(
    "size", [(9, 8), (10, 11)]
)  # with pixels left over and without
def test_second_derivatives(size):
    rng = np.random.default_rng(0)
    arrays, directions = (
        [
            rng.normal(size=shape).astype("float32")
            for shape in ((2, *size, 3), (3, 2, 3, 4))
        ]
        for _ in range(2)
    )

    def total(convolution):
        return lambda x, k: ops.sum(ops.sin(convolution(x, k, (3, 2))))

    ours, theirs = (
        hessian_product(total(f), arrays, directions)
        for f in (strided_convolution, ops.conv)
    )
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, atol=1e-4 * np.abs(b).max())


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("images", [0, 2])
def test_a_layer_is_that_of_keras(padding, images):
    arguments = 5, (3, 2), (2, 1), padding
    ours, theirs = Conv2D(*arguments), keras.layers.Conv2D(*arguments)
    for layer in (ours, theirs):
        layer.build((None, 8, 7, 3))
    theirs.set_weights(ours.get_weights())
    shape = theirs.compute_output_shape((images, 8, 7, 3))
    x = keras.random.normal((images, 8, 7, 3))
    assert tuple(ours(x).shape) == shape == ours.compute_output_shape(x.shape)
    if images:
        close(ours(x), theirs(x), atol=1e-5)
    again = keras.layers.deserialize(keras.layers.serialize(ours))
    assert type(again) is Conv2D and again.get_config() == ours.get_config()


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_a_kernel_of_one_pixel_with_strides_and_few_channels(padding):
    layer = Conv2D(8, 1, 2, padding, use_bias=False)
    layer.build((None, 64, 64, 4))
    assert Conv2D(8, 1, (2, 3), padding)(ops.ones((1, 5, 7, 4))).shape == (1, 3, 3, 8)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(32, 64, 64, 4)).astype("float32")
    upstream = rng.normal(size=(32, 32, 32, 8)).astype("float32")

    to_images, to_kernel = gradients(
        layer.convolution_op, images, np.array(layer.kernel), weights=upstream
    )
    reached = np.zeros_like(images)
    reached[:, ::2, ::2] = upstream @ np.array(layer.kernel)[0, 0].T
    close(to_images, reached, atol=1e-5)
    expected = np.tensordot(images[:, ::2, ::2], upstream, [[0, 1, 2]] * 2)
    close(to_kernel[0, 0], expected, atol=1e-3)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="measured with JAX")
def test_the_form_is_chosen_by_shape_precision_and_device(monkeypatch):
    import jax

    def blocks(size, dtype, window=9):
        kernel = ops.ones((window, window, 1, 1), dtype)
        strided_convolution(ops.ones((1, size, size, 1), dtype), kernel, (2, 2))

    called = []
    monkeypatch.setattr(
        convolutions, "convolution_over_blocks", lambda *_: called.append(True)
    )
    blocks(20, "bfloat16")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    blocks(28, "bfloat16")
    blocks(20, "float32")
    blocks(20, "bfloat16", window=3)
    assert not called
    blocks(20, "bfloat16")
    assert called
