import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules.ops import class_indicators
from keras_capsules.validation import check_count_of_classes, check_labels


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0]),
        np.array([[2], [0]]),
        np.array([2.0, 0.0], "float32"),
        np.array([[0, 0, 1], [1, 0, 0]]),
        np.array([[False, False, True], [True, False, False]]),
        np.array([[0, 0, 1], [1, 0, 0]], "float32"),
    ],
)
def test_every_kind_of_label_gives_indicators(labels):
    close(class_indicators(labels, 3), [[0, 0, 1], [1, 0, 0]])


def test_several_classes_at_once():
    close(class_indicators(np.array([[1, 0, 1]]), 3), [[1, 0, 1]])


@pytest.mark.parametrize("labels", [[1, 0], [[1], [0]], [1.0, 0.0], [True, False]])
def test_labels_of_one_class_say_whether_it_is_there(labels):
    close(class_indicators(np.array(labels), 1), [[1], [0]])
    check_labels(np.array(labels), 1)


def test_soft_labels():
    close(class_indicators(np.array([[0.9, 0.1, 0.0]]), 3), [[0.9, 0.1, 0.0]])
    check_labels(np.array([[0.9, 0.1, 0.0]]), 3)


@pytest.mark.parametrize("shape", [(), (4, 2), (4, 3, 1)])
def test_wrong_shape(shape):
    with pytest.raises(ValueError, match=r"`y_true` must have shape .*\(batch, 3\)"):
        class_indicators(np.zeros(shape, "int32"), 3, "y_true")


@pytest.mark.parametrize(
    "labels",
    [[0, 3], [-1, 0], [[0, 0, 2]], [[0.5, -0.5, 0.0]], [float("nan")], [0.4, 1.0]],
)
def test_label_outside_the_classes(labels):
    with pytest.raises(ValueError, match="`labels` holds the label"):
        check_labels(np.array(labels), 3)


def test_labels_that_are_text():
    with pytest.raises(ValueError, match="`labels` holds labels of type"):
        check_labels(np.array(["cat", "dog"]), 3)


def test_check_labels_accepts_lists_and_symbols():
    check_labels([0, 2], 3)
    check_labels(keras.KerasTensor((None, 3)), 3)


def test_labels_of_unknown_width():
    with pytest.raises(ValueError, match="`labels` must have shape"):
        check_labels(keras.KerasTensor((None, None)), 3)


def test_in_a_graph_of_tensorflow_labels_are_checked_when_it_runs():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("other compilers have no means to")
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64)])
    def check(labels):
        check_labels(labels, 3, "y")
        return labels

    check(tf.constant([0, 2], tf.int64))
    for wrong in ([0, 3], [-1, 2]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="`y` holds a label"):
            check(tf.constant(wrong, tf.int64))


@pytest.mark.parametrize("classes", range(2, 31))
def test_soft_labels_where_one_class_is_wanted_however_their_sum_rounds(classes):
    smooth = np.eye(classes, dtype="float32") * 0.9 + np.float32(0.1 / classes)
    with pytest.raises(ValueError, match="`y` holds soft labels, expected one-hot"):
        check_labels(smooth, classes, "y", several=False)


def test_integers_outside_the_classes_have_no_indicator():
    close(class_indicators(np.array([3, -1, 0]), 3), [[0] * 3, [0] * 3, [1, 0, 0]])


@pytest.mark.parametrize("labels", [[1, 1], [[1], [1]]])
def test_labels_of_the_only_class_are_one_hot(labels):
    check_labels(np.array(labels), 1, "y", several=False)


@pytest.mark.parametrize("labels", [[[1, 1, 0]], [[0, 0, 0]], [[True, True, False]]])
def test_one_class_where_one_is_wanted(labels):
    check_labels(np.array(labels), 3)
    with pytest.raises(ValueError, match="`y` holds rows of no or of several classes"):
        check_labels(np.array(labels), 3, "y", several=False)


def test_in_a_graph_of_tensorflow_one_class_is_checked_when_it_runs():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("other compilers have no means to")
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.int64)])
    def check(labels):
        check_labels(labels, 3, "y", several=False)
        return labels

    check(tf.constant([[0, 1, 0]], tf.int64))
    with pytest.raises(tf.errors.InvalidArgumentError, match="`y` holds rows of no"):
        check(tf.constant([[0, 1, 1]], tf.int64))


def test_in_a_graph_of_tensorflow_fractions_are_found_when_it_runs():
    if keras.backend.backend() != "tensorflow":
        pytest.skip("other compilers have no means to")
    import tensorflow as tf

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
    def check(labels):
        check_labels(labels, 3, "y")
        return labels

    check(tf.constant([0.0, 2.0]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="`y` holds a label"):
        check(tf.constant([0.4, 2.0]))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32)])
    def check_count(labels):
        check_count_of_classes(labels, 3, 1, "one is shown", "y")
        return labels

    check_count(tf.constant([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 1 classes"):
        check_count(tf.constant([[1.0, 1.0, 0.0]]))


def test_count_of_classes():
    check_count_of_classes(np.array([0, 2]), 3, 1, "one is shown")
    check_count_of_classes(np.array([[1, 1, 0]]), 3, 2, "two are shown")
    with pytest.raises(ValueError, match="`y` holds rows of more than 1 classes: one"):
        check_count_of_classes(np.array([[1, 0, 0], [1, 1, 0]]), 3, 1, "one", "y")
