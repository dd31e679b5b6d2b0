"""The code of the pages runs, and what they say of it is so."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

from keras_capsules import layers, routing, testing

PAGE = (Path(__file__).parents[1] / "docs" / "new_routing.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
on_tensorflow = keras.backend.backend() == "tensorflow"


@pytest.fixture(scope="module")
def scope():
    """What the blocks of the page define, each run after the one before."""
    scope, printed = {}, []
    scope["print"] = lambda *words: printed.append(" ".join(map(str, words)))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(Path(__file__).parent)
        for code in BLOCKS:
            if "tf.saved_model" in code:
                continue  # it has a test of its own
            if not on_tensorflow:
                # One backend trains as long as the page does.
                code = code.replace("train.batch(32)", "train.take(256).batch(32)")
                code = code.replace("epochs=5", "epochs=1")
            exec(code, scope)
    return {**scope, "printed": printed}


def test_the_network_is_as_accurate_as_the_page_says(scope):
    if on_tensorflow:
        (said,) = re.findall(r"([\d.]+) % with TensorFlow", PAGE)
        assert scope["accuracy"] > float(said) / 100 - 0.02
    assert scope["accuracy"] > 0.1


def test_the_trace_has_the_shapes_of_the_page(scope):
    *shapes, largest = scope["printed"]
    assert "\n".join(shapes) in PAGE
    first, second = map(float, re.findall(r"[\d.]+", largest))
    assert first == 0.1 and first <= second
    if on_tensorflow:
        said, *_ = re.findall(r"\[0\.1, ([\d.]+)\]", PAGE)
        assert second == pytest.approx(float(said), abs=0.03)


def test_the_routing_of_the_page_is_that_of_the_package(scope):
    poses = np.random.default_rng(0).normal(size=(2, 6, 1, 4)).astype("float32")
    kernel = np.random.default_rng(1).normal(size=(6, 3, 4, 5)).astype("float32")
    found = scope["InvertedAttention"](iterations=3)(poses, kernel)
    expected = routing.InvertedAttentionRouting(iterations=3)(poses, kernel)
    np.testing.assert_allclose(*map(ops.convert_to_numpy, (found, expected)), atol=1e-6)


@pytest.mark.skipif(not on_tensorflow, reason="only TensorFlow exports")
def test_the_export_of_the_page_runs(scope, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = [code for code in BLOCKS if "tf.saved_model" in code]
    exec(code, scope)
    scores = scope["served"].serve(scope["pictures"]).numpy()
    expected = scope["model"].predict(scope["pictures"], verbose=0)
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_batch_statistics_are_learned(scope):
    route = scope["NormalizedAttention"]()
    poses = np.random.default_rng(0).normal(size=(2, 6, 1, 4)).astype("float32")
    kernel = np.random.default_rng(1).normal(size=(6, 3, 4, 5)).astype("float32")
    route.build(poses.shape, kernel.shape)
    route(poses, kernel)
    assert not ops.convert_to_numpy(route.norm.moving_mean).any()
    route(poses, kernel, training=True)
    assert ops.convert_to_numpy(route.norm.moving_mean).all()


# The errors that the page shows.


def wrong(base, **hooks):
    return type("InvertedAttention", (base,), hooks)


def attend(route):
    return layers.DigitCapsule(10, routing=route)(np.ones((2, 200, 8), "float32"))


def short(base):
    def update_weights(self, scores, inputs):
        return ops.softmax(scores, axis=1)[..., 0]

    attend(wrong(base, update_weights=update_weights)())


def nameless(base):
    def update_parents(self, moments, iteration, inputs):
        return {"poses": moments.sum}

    attend(wrong(base, update_parents=update_parents)())


def squares(base):
    def update_parents(self, moments, iteration, inputs):
        return {"parents": moments.squares(about=moments.sum)}

    attend(wrong(base, update_parents=update_parents)())


def shared(base):
    route = base()
    attend(route)
    attend(route)


def missing(base):
    poses, kernel = np.ones((2, 5, 4, 4), "float32"), np.ones((5, 3, 4, 4), "float32")
    routing.EMRouting()(poses, kernel)


def matrices(base):
    layers.EMRoutingCapsule(10)(np.ones((2, 3, 3, 5, 4, 4), "float32"))


def random(base):
    def update_weights(self, scores, inputs):
        noise = keras.random.normal(ops.shape(scores), dtype=scores.dtype)
        return ops.softmax(scores + noise, axis=1)

    testing.check_routing(wrong(base, update_weights=update_weights)())


def unregistered(base):
    testing.check_routing(wrong(base)())


@pytest.mark.parametrize(
    "mistake",
    [short, nameless, squares, shared, missing, matrices, random, unregistered],
    ids=lambda mistake: mistake.__name__,
)
def test_errors_are_as_the_page_shows(scope, mistake):
    with pytest.raises((ValueError, AssertionError)) as error:
        mistake(scope["InvertedAttention"])
    received = plain(error.value)
    if "JAX RNG" in received:  # Keras is the first to say it there
        return
    shown = PAGE.partition("## What can go wrong")[2].split("```")[1::2]
    assert any(plain(text) in received for text in shown), received


def plain(text):
    """Without colours, line breaks, the size of the batch and of a difference."""
    text = re.sub(r"\x1b\[\d+m", "", str(text))
    text = re.sub(r"\((?:None|\d+), ", "(2, ", " ".join(text.split()))
    return re.sub(r"differ by \S+", "differ by", text)
