import keras
import numpy as np
from helpers import close, gradients

from keras_capsules.robustness import cross_entropy

SCORES = np.array([[0.9, 0.3, 0.0], [0.2, 0.1, 0.7], [0.0, 0.5, 0.5]], "float32")
LABELS = np.array([0, 1, 2])


def test_values():
    expected = np.log([1.2, 1.0, 1.0]) - np.log([0.9, 0.1, 0.5])
    close(cross_entropy(LABELS, SCORES), expected)
    close(cross_entropy(LABELS[:, None], SCORES), expected)
    close(cross_entropy(np.eye(3)[LABELS], SCORES), expected)


def test_probabilities_have_the_cross_entropy_of_keras():
    probabilities = SCORES / SCORES.sum(-1, keepdims=True)
    ours = keras.ops.mean(cross_entropy(LABELS, probabilities))
    close(ours, keras.losses.SparseCategoricalCrossentropy()(LABELS, probabilities))


def test_a_sure_softmax_has_a_gradient():
    logits = np.array([[40.0, 1.0, -2.0]], "float32")

    def loss(logits):
        return cross_entropy(np.array([0]), keras.ops.softmax(logits))

    assert float(keras.ops.softmax(logits)[0, 0]) == 1.0
    (gradient,) = gradients(loss, logits)
    close(gradient[0, 1:] / np.exp([-39.0, -42.0]), np.ones(2), rtol=1e-3)


def test_no_score_at_all_is_finite():
    scores = np.zeros((1, 3), "float32")
    (gradient,) = gradients(lambda x: cross_entropy(np.array([0]), x), scores)
    assert np.isfinite(gradient).all()
    assert np.isfinite(keras.ops.convert_to_numpy(cross_entropy([0], scores))).all()
