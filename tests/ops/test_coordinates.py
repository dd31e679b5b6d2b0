import keras
import numpy as np
import pytest

from keras_capsules.ops import add_coordinates, votes


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_votes_hold_the_place_of_the_child(dtype):
    rng = np.random.default_rng(0)
    height, width, types, parents = 2, 3, 2, 4
    children = height * width * types
    poses = rng.normal(size=(2, children, 4, 4)).astype("float32")
    kernel = rng.normal(size=(children, parents, 4, 4)).astype("float32")
    poses, kernel = (keras.ops.convert_to_tensor(x, dtype) for x in (poses, kernel))
    plain = keras.ops.convert_to_numpy(keras.ops.cast(votes(poses, kernel), "float32"))
    found = votes(*add_coordinates(poses, kernel, (height, width)))
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    expected = plain.reshape(2, parents, height, width, types, 4, 4)
    expected[..., 0, 3] += ((np.arange(height) + 0.5) / height)[:, None, None]
    expected[..., 1, 3] += ((np.arange(width) + 0.5) / width)[:, None]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(keras.ops.cast(found, "float32")),
        expected.reshape(plain.shape),
        atol=1e-5 if dtype == "float32" else 0.1,
    )
