import keras
import numpy as np
import pytest
from helpers import random_images, small_matrix_capsnet

from keras_capsules import plotting


def test_the_area_is_what_a_capsule_gets():
    model = small_matrix_capsnet((19, 20, 1))
    images, labels = random_images(5, (19, 20, 1))
    trace = model.trace(images)["class_capsules"]
    trace = {name: keras.ops.convert_to_numpy(x) for name, x in trace.items()}
    near = trace["distances"] <= np.quantile(trace["distances"], 0.98)
    votes = (trace["weights"] * near).sum(-1)  # (iterations, images, classes)

    axes = plotting.vote_distances(model, images, labels).axes
    assert [axis.get_ylabel() for axis in axes] == [f"iteration {k}" for k in (1, 2)]
    there = labels[:, None] == range(3)
    for axis, row, activations in zip(axes, votes, trace["activations"], strict=True):
        texts = [text.get_text() for text in axis.get_legend().get_texts()]
        for bars, chosen, text in zip(
            axis.containers, (there, ~there), texts, strict=True
        ):
            area = sum(bar.get_height() for bar in bars)
            np.testing.assert_allclose(area, row[chosen].mean(), rtol=1e-4)
            assert f"activation {activations[chosen].mean():.2f}" in text


@pytest.mark.parametrize("labels", [[0, 1, 3], ["a"] * 3, [0, 1], [[0, 1, 1]] * 3])
def test_bad_labels(labels):
    images, _ = random_images(3, (19, 20, 1))
    with pytest.raises(ValueError, match="`labels`"):
        plotting.vote_distances(small_matrix_capsnet((19, 20, 1)), images, labels)


def test_a_network_with_one_class_has_one_histogram():
    model = small_matrix_capsnet((19, 20, 1), classes=1)
    images, _ = random_images(2, (19, 20, 1))
    axis = plotting.vote_distances(model, images, [[1], [1]]).axes[0]
    (text,) = axis.get_legend().get_texts()
    assert text.get_text().startswith("true class")
