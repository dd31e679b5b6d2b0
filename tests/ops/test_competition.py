import keras
import numpy as np

from keras_capsules.ops import ReceptiveFields, compete


def test_without_fields_it_is_a_softmax_over_parents():
    scores = np.random.default_rng(0).normal(size=(2, 3, 4)).astype("float32")
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(compete(scores), expected, rtol=1e-5)


def test_all_fields_of_a_child_compete():
    # Two images of three fields, which see children 0 1, 1 2 and 2 3.
    fields = ReceptiveFields((1, 4), (1, 2), (1, 1), "valid", 1)
    scores = np.random.default_rng(0).normal(size=(6, 3, 2)).astype("float32")
    found = keras.ops.convert_to_numpy(compete(scores, fields)).reshape(2, 3, 3, 2)
    weights = np.exp(scores.reshape(2, 3, 3, 2))
    for image in range(2):
        for field, places in enumerate(fields.children):
            for place, child in enumerate(places):
                rivals = weights[image].swapaxes(1, 2)[fields.children == child].sum()
                np.testing.assert_allclose(
                    found[image, field, :, place],
                    weights[image, field, :, place] / rivals,
                    rtol=1e-5,
                )


def test_scores_of_any_size():
    fields = ReceptiveFields((1, 4), (1, 2), (1, 1), "valid", 1)
    scores = np.zeros((3, 2, 2), "float32")
    scores[0], scores[1, 0], scores[2] = -1e9, 1e9, -1e4
    found = keras.ops.convert_to_numpy(compete(scores, fields))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[1], [[1.0, 1.0], [0.0, 0.0]])
