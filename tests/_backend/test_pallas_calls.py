import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("kernels for JAX", allow_module_level=True)

import jax
import jax.numpy as jnp

from keras_capsules._backend import pallas_calls


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(pallas_calls, "INTERPRET", jax.default_backend() == "cpu")


def test_arrays_are_filled_up_and_cut_off():
    x = np.random.default_rng(0).normal(size=(5, 3, 6)).astype("float32")
    seen = []

    def kernel(x, pair, out):
        seen.append((x.shape, [y.shape for y in pair], out.shape))
        out[...] = (x[...] + pair[0][...] * pair[1][...]).sum(axis=0)

    found = pallas_calls.call(
        kernel,
        "ni",
        {"n": 4, "i": 2},
        {"nir->rin": jnp.asarray(x), "ni->in": (jnp.asarray(x[..., 0]),) * 2},
        "in->ni",
        warps=1,
        least={"r": 16},
    )
    assert seen == [((16, 2, 4), [(2, 4)] * 2, (2, 4))]
    # The 16 rows have the pair each.
    expected = x.sum(axis=2) + 16 * x[..., 0] ** 2
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_an_axis_has_a_place_for_each_program():
    x = jnp.arange(10.0).reshape(2, 5)

    def kernel(x, out):
        out[...] = x[...].sum(axis=0)

    found = pallas_calls.call(
        kernel, "ji", {"j": None, "i": 2}, {"ji->ji": x}, "cj->cj", warps=1, least={}
    )
    np.testing.assert_array_equal(found, [[1.0, 11.0], [5.0, 15.0], [4.0, 9.0]])


def test_fma():
    np.testing.assert_array_equal(
        pallas_calls.fma(2.0, jnp.asarray([3.0, 4.0]), 1.0), [7.0, 9.0]
    )


def test_loop():
    def step(i, sums):
        for x in sums:
            yield x + i

    first, second = pallas_calls.loop(4, step, [0.0, 10.0])
    assert (first, second) == (6.0, 16.0)
