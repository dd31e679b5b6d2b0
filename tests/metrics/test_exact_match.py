import keras
import numpy as np
import pytest

from keras_capsules import metrics

LENGTHS = np.array([[0.9, 0.7, 0.2], [0.8, 0.9, 0.1], [0.3, 0.2, 0.1]], "float32")


def test_every_present_class_must_outrank_every_absent_one():
    metric = metrics.ExactMatch()
    metric.update_state(np.array([[1, 1, 0], [0, 1, 1], [1, 0, 0]]), LENGTHS)
    assert float(metric.result()) == pytest.approx(2 / 3)


def test_integer_labels_and_sample_weight():
    metric = metrics.ExactMatch()
    metric.update_state(np.array([0, 0, 0]), LENGTHS, sample_weight=[1.0, 2.0, 1.0])
    assert float(metric.result()) == pytest.approx(0.5)


def test_a_tie_is_no_match():
    assert float(metrics.ExactMatch()(np.array([[1, 0]]), np.array([[0.5, 0.5]]))) == 0


@pytest.mark.parametrize("label", [-1, 3])
def test_labels_outside_the_classes(label):
    with pytest.raises(ValueError, match=f"`y_true` holds the label {label}"):
        metrics.ExactMatch()(np.array([0, label, 1]), LENGTHS)


def test_lists():
    assert (
        float(metrics.ExactMatch()([[1, 0], [1, 0]], [[0.9, 0.1], [0.2, 0.3]])) == 0.5
    )


def test_config():
    metric = metrics.ExactMatch(name="both")
    config = keras.saving.serialize_keras_object(metric)
    assert keras.saving.deserialize_keras_object(config).name == "both"
