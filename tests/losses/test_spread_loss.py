import keras
import numpy as np
import pytest
from helpers import close, golden, gradients, slope

from keras_capsules import losses


@pytest.fixture(params=[0.2, 0.9])
def case(request):
    arrays = golden(f"spread_loss_{request.param}")
    activations = arrays["activations"].astype("float32")
    return request.param, arrays["labels"].astype("float32"), activations, arrays


def test_golden(case):
    margin, labels, activations, arrays = case
    close(
        losses.SpreadLoss(margin, reduction=None)(labels, activations), arrays["loss"]
    )


def test_integer_labels_and_reductions(case):
    margin, labels, activations, arrays = case
    integers = labels.argmax(-1)
    for y in (integers, integers[:, None], labels):
        loss = losses.SpreadLoss(margin)(y, activations)
        assert float(loss) == pytest.approx(arrays["loss"].mean(), rel=1e-5)
    total = losses.SpreadLoss(margin, reduction="sum")(labels, activations)
    assert float(total) == pytest.approx(arrays["loss"].sum(), rel=1e-5)


def test_sample_weight(case):
    margin, labels, activations, arrays = case
    weight = np.arange(len(labels), dtype="float32")
    loss = losses.SpreadLoss(margin)(labels, activations, sample_weight=weight)
    assert float(loss) == pytest.approx((arrays["loss"] * weight).mean(), rel=1e-5)


def test_gradient_matches_finite_differences(case):
    margin, labels, activations, _ = case
    direction = np.random.default_rng(0).normal(size=activations.shape)

    def reference(a):
        lead = np.sum(labels * a, -1, keepdims=True) - a
        return np.sum((1 - labels) * np.maximum(0, margin - lead) ** 2)

    (gradient,) = gradients(
        lambda x: losses.SpreadLoss(margin, reduction="sum")(labels, x), activations
    )
    expected = slope(reference, [activations.astype("float64")], [direction])
    assert np.sum(gradient * direction) == pytest.approx(expected, rel=1e-3)


def test_a_margin_that_is_set_counts_at_once():
    loss = losses.SpreadLoss(0.9)
    activations = np.array([[0.5, 0.4]])
    assert float(loss(np.array([0]), activations)) == pytest.approx(0.8**2, rel=1e-5)
    loss.margin = 0.3
    assert float(loss(np.array([0]), activations)) == pytest.approx(0.2**2, rel=1e-5)
    assert loss.get_config()["margin"] == 0.3


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dtype(dtype):
    loss = losses.SpreadLoss(0.9, dtype=dtype)(np.array([0]), np.array([[0.5, 0.5]]))
    assert keras.backend.standardize_dtype(loss.dtype) == dtype
    assert float(loss) == pytest.approx(0.81, rel=0.02)


@pytest.mark.parametrize("margin", [0.0, -0.1, float("nan"), float("inf"), "0.9", None])
def test_bad_margin(margin):
    with pytest.raises(ValueError, match="`margin` must be a number above 0"):
        losses.SpreadLoss(margin)


def test_bad_labels():
    activations = np.zeros((2, 3), "float32")
    with pytest.raises(ValueError, match="`y_true` holds the label 3"):
        losses.SpreadLoss()(np.array([0, 3]), activations)
    with pytest.raises(ValueError, match="`y_true` holds rows of no or of several"):
        losses.SpreadLoss()(np.array([[1, 1, 0], [0, 0, 1]]), activations)


def test_trains_a_functional_model_on_integer_labels():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "sigmoid")])
    model.compile("adam", loss=losses.SpreadLoss(), metrics=["accuracy"])
    history = model.fit(np.eye(4)[:3], np.arange(3), epochs=2, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
