import keras
import numpy as np
import pytest

if keras.backend.backend() != "jax":
    pytest.skip("kernels for JAX", allow_module_level=True)

import jax
import jax.numpy as jnp

from keras_capsules._backend import pallas_calls, pallas_vectors

PARENTS = [1, 9, 11]  # a program of `moments` serves 1, 5 of 10, or 6 of 12


@pytest.fixture(autouse=True)
def interpreted(monkeypatch):
    monkeypatch.setattr(pallas_calls, "INTERPRET", jax.default_backend() == "cpu")


def close(found, expected):
    expected = np.asarray(expected)
    assert found.shape == expected.shape
    error = np.abs(np.asarray(found) - expected).max()
    assert error < 2e-5 * np.abs(expected).max()


# One image fills a tile up; 130 take three of the sums and five of the gradient.
@pytest.mark.parametrize("parents", PARENTS)
@pytest.mark.parametrize(
    ("images", "children", "q", "r"), [(1, 3, 5, 3), (130, 9, 8, 16)]
)
def test_sums_over_votes_of_vectors(images, children, q, r, parents):
    rng = np.random.default_rng(0)

    def normal(*shape):
        return rng.normal(size=shape).astype("float32")

    poses, matrices = normal(images, children, q), normal(children, q, parents, r)
    votes = np.einsum("niq,iqjr->njir", poses, matrices, dtype="float64")
    weights = [normal(images, parents, children) for _ in range(2)]
    slopes = normal(images, parents, 2, r)

    with jax.default_matmul_precision("highest"):
        found = pallas_vectors.scores(*map(jnp.asarray, (poses, matrices, slopes)))
        close(found, np.einsum("njtr,njir->njti", slopes, votes))
        found = pallas_vectors.moments(*map(jnp.asarray, (poses, matrices, weights[0])))
        close(found, np.einsum("nji,njir->njr", weights[0], votes))
        to_poses, to_matrices = pallas_vectors.gradient(
            jnp.asarray(poses),
            jnp.asarray(matrices),
            tuple(map(jnp.asarray, weights)),
            jnp.asarray(slopes),
        )
    to_votes = np.einsum("tnji,njtr->njir", weights, slopes)
    close(to_poses, np.einsum("njir,iqjr->niq", to_votes, matrices))
    close(to_matrices, np.einsum("njir,niq->iqjr", to_votes, poses))
