import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules import layers

POSES = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")


@pytest.mark.parametrize(
    ("labels", "kept"),
    [
        (np.array([2, 0]), [[0, 0, 1], [1, 0, 0]]),
        (np.array([[2], [0]]), [[0, 0, 1], [1, 0, 0]]),
        (np.array([[0, 1, 0], [1, 0, 0]]), [[0, 1, 0], [1, 0, 0]]),
        (np.array([[0, 1, 1], [0, 0, 0]], "float32"), [[0, 1, 1], [0, 0, 0]]),
    ],
)
def test_labels_choose_the_capsules(labels, kept):
    close(layers.CapsuleMask()(POSES, labels), POSES * np.array(kept)[..., None])


def test_without_labels_the_longest_is_kept():
    longest = np.linalg.norm(POSES, axis=-1).argmax(-1)
    close(layers.CapsuleMask()(POSES), POSES * np.eye(3)[longest][..., None])


def test_shapes():
    mask = layers.CapsuleMask()
    assert mask.compute_output_shape(POSES.shape, (2,)) == POSES.shape
    with pytest.raises(ValueError, match="`poses` must have shape"):
        mask(POSES[0])
    with pytest.raises(ValueError, match="`labels` must have shape"):
        mask(POSES, np.zeros((2, 4)))
    with pytest.raises(ValueError, match="`labels` holds the label 3"):
        mask(POSES, np.array([0, 3]))
    with pytest.raises(ValueError, match="must hold as many samples"):
        mask(POSES, np.array([0]))
    with pytest.raises(ValueError, match="`labels` must have shape"):
        layers.CapsuleMask()(keras.Input((3, 4)), keras.Input((7,)))


def test_labels_keep_their_precision():
    poses = np.ones((1, 400, 1), "float32")
    masked = layers.CapsuleMask(dtype="mixed_bfloat16")(poses, np.array([301.0], "f4"))
    assert keras.backend.standardize_dtype(masked.dtype) == "bfloat16"
    close(masked[0, :, 0], np.eye(400)[301])
