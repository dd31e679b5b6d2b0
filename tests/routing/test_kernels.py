import keras
import numpy as np
import pytest

from keras_capsules.ops import votes
from keras_capsules.routing._kernels import LENGTH, stddev_for


def test_mean_votes_have_the_norm():
    rng = np.random.default_rng(0)
    shape = children, parents, size, _ = (200, 5, 4, 16)
    poses = rng.normal(size=(8, children, 1, size))
    poses *= LENGTH / np.linalg.norm(poses, axis=-1, keepdims=True)
    kernel = stddev_for(0.7, shape) * rng.normal(size=shape)
    found = votes(poses.astype("float32"), kernel.astype("float32"))
    means = keras.ops.convert_to_numpy(keras.ops.sum(found, axis=2)) / parents
    norms = np.linalg.norm(means, axis=-1)
    assert np.sqrt(np.mean(norms**2)) == pytest.approx(0.7, rel=0.1)
