import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules import losses
from keras_capsules.losses.targets import targets

SCORES = np.zeros((2, 3), "float32")


@pytest.mark.parametrize("labels", [[2, 0], [[2], [0]], [[0, 0, 1], [1, 0, 0]]])
def test_every_kind_of_label(labels):
    for several in (True, False):
        close(targets(np.array(labels), SCORES, several), [[0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize("labels", [[[1, 0, 1], [0, 1, 0]], [[0, 0, 0], [0, 1, 0]]])
def test_several_classes_only_where_they_are_wanted(labels):
    close(targets(np.array(labels), SCORES), labels)
    with pytest.raises(ValueError, match="`y_true` holds rows of no or of several"):
        targets(np.array(labels), SCORES, several=False)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 3], SCORES, "`y_true` holds the label 3"),
        ([0, 1, 2], SCORES, "must have the same batch size"),
        (np.zeros((2, 4)), SCORES, "`y_true` must have shape"),
        ([0, 1], SCORES[0], "`y_pred` must have shape"),
    ],
)
def test_bad_labels_and_scores(labels, scores, message):
    with pytest.raises(ValueError, match=message):
        targets(np.array(labels), scores)


@pytest.mark.parametrize(("dtype", "classes"), [("bfloat16", 257), ("float16", 2049)])
def test_integers_that_a_loss_would_round(dtype, classes):
    def loss(count, labels):
        scores = keras.ops.one_hot(labels, count)
        return float(losses.MarginLoss(dtype=dtype)(labels, scores))

    labels = np.array([classes - 1])
    assert loss(classes, labels) == 0.0
    with pytest.raises(ValueError, match=f"integers up to {classes} in {dtype}"):
        loss(classes + 1, labels)
    one_hot = np.eye(classes + 1, dtype="float32")[-1:]
    assert losses.MarginLoss(dtype=dtype)(one_hot, one_hot) == 0.0
