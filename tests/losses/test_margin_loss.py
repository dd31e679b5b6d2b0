import keras
import numpy as np
import pytest
from helpers import close, golden, gradients, slope

from keras_capsules import losses


@pytest.fixture
def case():
    case = golden("margin_loss")
    return case["labels"].astype("float32"), case["lengths"].astype("float32"), case


def test_golden(case):
    labels, lengths, arrays = case
    close(losses.MarginLoss(reduction=None)(labels, lengths), arrays["loss"])


def test_integer_labels_and_reductions(case):
    labels, lengths, arrays = case
    integers = labels.argmax(-1)
    for y in (integers, integers[:, None], labels):
        loss = losses.MarginLoss()(y, lengths)
        assert float(loss) == pytest.approx(arrays["loss"].mean(), rel=1e-5)
    total = losses.MarginLoss(reduction="sum")(labels, lengths)
    assert float(total) == pytest.approx(arrays["loss"].sum(), rel=1e-5)


def test_sample_weight(case):
    labels, lengths, arrays = case
    weight = np.arange(len(labels), dtype="float32")
    loss = losses.MarginLoss()(labels, lengths, sample_weight=weight)
    assert float(loss) == pytest.approx((arrays["loss"] * weight).mean(), rel=1e-5)


def test_several_classes_at_once():
    loss = losses.MarginLoss()(np.array([[1, 1, 0]]), np.array([[0.9, 0.5, 0.4]]))
    assert float(loss) == pytest.approx(0.4**2 + 0.5 * 0.3**2, rel=1e-5)


def test_margins_and_weight():
    loss = losses.MarginLoss(0.8, 0.2, 0.25)(np.array([0]), np.array([[0.5, 0.6]]))
    assert float(loss) == pytest.approx(0.3**2 + 0.25 * 0.4**2, rel=1e-5)


def test_gradient_matches_finite_differences(case):
    labels, lengths, _ = case
    direction = np.random.default_rng(0).normal(size=lengths.shape)

    def reference(x):
        present, absent = np.maximum(0, 0.9 - x) ** 2, np.maximum(0, x - 0.1) ** 2
        return np.sum(labels * present + 0.5 * (1 - labels) * absent)

    (gradient,) = gradients(
        lambda x: losses.MarginLoss(reduction="sum")(labels, x), lengths
    )
    expected = slope(reference, [lengths.astype("float64")], [direction])
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-3)


def test_bad_labels():
    lengths = np.zeros((2, 3), "float32")
    with pytest.raises(ValueError, match="`y_true` holds the label 3"):
        losses.MarginLoss()(np.array([0, 3]), lengths)
    with pytest.raises(ValueError, match="`y_true` must have shape"):
        losses.MarginLoss()(np.zeros((2, 4)), lengths)
    with pytest.raises(ValueError, match="must have the same batch size"):
        losses.MarginLoss()(np.array([0, 1, 2]), lengths)
    with pytest.raises(ValueError, match="`y_true` must have shape"):
        losses.MarginLoss()(np.array(1), lengths)
    with pytest.raises(ValueError, match="`y_pred` must have shape"):
        losses.MarginLoss()(np.array([0, 1]), lengths[:, 0])


def test_trains_a_functional_model_on_integer_labels():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "sigmoid")])
    model.compile("adam", loss=losses.MarginLoss(), metrics=["accuracy"])
    history = model.fit(np.eye(4)[:3], np.arange(3), epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]


def test_one_class_is_read_the_same_in_every_shape():
    lengths = np.array([[0.7], [0.9]], "float32")
    for labels in ([0, 0], [1, 0]):
        flat, column = np.array(labels), np.array(labels)[:, None]
        values = [float(losses.MarginLoss()(y, lengths)) for y in (flat, column)]
        absent = 0.5 * np.square(lengths[np.array(labels) == 0] - 0.1).sum()
        present = np.square(0.9 - lengths[np.array(labels) == 1]).sum()
        assert values == pytest.approx(2 * [(absent + present) / 2], rel=1e-5)


@pytest.mark.parametrize("value", ["a", None, -1, float("nan"), float("inf"), True])
@pytest.mark.parametrize("name", ["present_margin", "absent_margin", "absent_weight"])
def test_bad_number(name, value):
    with pytest.raises(ValueError, match=f"`{name}` must be a finite number"):
        losses.MarginLoss(**{name: value})
