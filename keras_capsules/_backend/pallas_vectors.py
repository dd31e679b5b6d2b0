"""Sums over votes of vector poses on a GPU with JAX, as products of matrices.

The functions are those of `pallas_votes`, for poses of one row and without a center. A
sum of votes is then linear in the poses. Tensor cores compute it from the poses,
without computing any vote:

    Σ_i w_ij V_ijr = Σ_iq (w_ij x_iq) M_iqjr
    Σ_r c_jr V_ijr = Σ_q x_iq (Σ_r c_jr M_iqjr)

Axes are named as in `pallas_votes`. The poses of all children in a tile have `WIDTH`
components in total. Products are computed in TF32 by default, as other products in JAX,
see `jax.default_matmul_precision`.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from keras_capsules._backend import tiles
from keras_capsules._backend.pallas_calls import call, float32, loop

WIDTH = 64
# Images of a tile and warps of a program, measured on an H100 with a `DigitCapsule` and
# a batch of 512. No other values were faster for both sums together. The gradient took
# 0.33 ms, and 0.40 ms with the values of the sums.
SUMS = {"images": tiles.IMAGES, "warps": 4}
GRADIENT = {"images": 32, "warps": 2}


@jax.jit
def scores(poses: Any, matrices: Any, coefficients: Any) -> Any:
    """`Σ_r c_jr V_ijr`.

    Args:
        poses: poses of the children, `(batch, children, Q)`.
        matrices: matrices of the children, `(children, Q, parents, R)`.
        coefficients: `(batch, parents, polynomials, R)`.

    Returns:
        `(batch, parents, polynomials, children)`, float32.
    """
    parents, polynomials = coefficients.shape[1:3]

    def kernel(poses, matrices, coefficients, out):
        x = float32(poses[...])  # (n, i, q)

        def of_parent(j, sums):
            to_vote = _matrix(matrices[j]).T  # (r, i·q)
            for t in range(polynomials):
                to_pose = coefficients[:, j, t] @ to_vote
                out[:, j, t] = (x * to_pose.reshape(x.shape)).sum(axis=2)
            return ()

        loop(parents, of_parent, [])

    return _call(
        kernel,
        "ni",
        {"n": _images(poses, SUMS), "i": _children(poses)},
        {**_made_of(poses, matrices), "njtr->njtr": coefficients},
        "njti->njti",
        warps=SUMS["warps"],
        stages=_stages(poses, matrices, polynomials),
    )


@jax.jit
def moments(poses: Any, matrices: Any, weights: Any) -> Any:
    """`Σ_i w_ij V_ij`.

    Args:
        poses, matrices: as for `scores`.
        weights: `(batch, parents, children)`, float32.

    Returns:
        `(batch, parents, R)`, float32.
    """
    images, children = _images(poses, SUMS), _children(poses)
    parents = tiles.side_by_side(weights.shape[1], 8)
    programs = pl.cdiv(weights.shape[0], images) * pl.cdiv(weights.shape[1], parents)
    together = tiles.children_of_a_program(
        weights.shape[2], children, programs * SUMS["warps"]
    )

    def kernel(poses, matrices, weights, out):
        def of_children(k, sums):
            i = pl.ds(k * children, children)
            x = float32(poses[:, i])
            for j, total in enumerate(sums):
                weighted = x * weights[:, j, i][:, :, None]
                yield total + _flat(weighted) @ _matrix(matrices[j, i])

        zeros = jnp.zeros((images, out.shape[2]), jnp.float32)
        sums = loop(together // children, of_children, [zeros] * parents)
        for j, total in enumerate(sums):
            out[:, j] = total

    found = _call(
        kernel,
        "nji",
        {"n": images, "j": parents, "i": together},
        {**_made_of(poses, matrices), "nji->nji": weights},
        "cnjr->cnjr",
        warps=SUMS["warps"],
        stages=_stages(poses, matrices),
    )
    return found.sum(axis=0)


@jax.jit
def gradient(poses: Any, matrices: Any, weights: tuple, slopes: Any) -> tuple[Any, Any]:
    """Computes the gradients of `Σ_t moments(w_t) · slope_t`.

    Args:
        poses, matrices: as for `scores`.
        weights: for each `t` a tensor `(batch, parents, children)`, float32.
        slopes: gradients of the moments, `(batch, parents, t, R)`, float32.

    Returns:
        The gradients with respect to poses and matrices, in their shapes, float32.
    """
    images, children = _images(poses, GRADIENT), _children(poses)
    parents = tiles.side_by_side(slopes.shape[1], 2)

    def to_poses(poses, matrices, weights, slopes, out):
        def of_parent(j, sums):
            to_vote = _matrix(matrices[j]).T  # (r, i·q)
            (total,) = sums
            for t, w in enumerate(weights):
                to_pose = slopes[:, j, t] @ to_vote
                total += to_pose.reshape(total.shape) * w[:, j][:, :, None]
            yield total

        zeros = jnp.zeros(out.shape, jnp.float32)
        (out[...],) = loop(slopes.shape[1], of_parent, [zeros])

    def to_matrices(poses, matrices, weights, slopes, out):
        def of_images(n, sums):
            n = pl.ds(n * images, images)
            x = float32(poses[n])
            for j, total in enumerate(sums):
                for t, w in enumerate(weights):
                    weighted = x * w[n, j][:, :, None]
                    total += _flat(weighted).T @ slopes[n, j, t]
                yield total

        zeros = jnp.zeros((out.shape[1] * out.shape[2], out.shape[3]), jnp.float32)
        steps = poses.shape[0] // images
        for j, total in enumerate(loop(steps, of_images, [zeros] * parents)):
            out[j] = total.reshape(out.shape[1:])

    inputs = {
        **_made_of(poses, matrices),
        "nji->nji": weights,
        "njtr->njtr": slopes,
    }
    blocks = {"n": images, "i": children}
    form = {
        "warps": GRADIENT["warps"],
        "stages": _stages(poses, matrices, len(weights)),
    }
    of_poses = _call(to_poses, "ni", blocks, inputs, "niq->niq", **form)
    blocks = {**blocks, "j": parents}
    of_matrices = _call(to_matrices, "ij", blocks, inputs, "jiqr->iqjr", **form)
    return of_poses, of_matrices


def _made_of(poses, matrices):
    return {"niq->niq": poses, "iqjr->jiqr": matrices}


def _images(poses, tile):
    """Number of images in a tile, not many more than in the batch."""
    return min(tile["images"], max(16, pl.next_power_of_2(poses.shape[0])))


def _children(poses):
    """Number of children in a tile."""
    return max(WIDTH // pl.next_power_of_2(poses.shape[2]), 1)


def _stages(poses, matrices, products=1):
    """`None`, XLA's choice, if tiles of several steps fit into shared memory, or 1."""
    fit = poses.shape[2] >= 4 and matrices.shape[3] <= 16 and products <= 9
    return None if fit else 1


def _flat(x):
    """(n, i, q) as (n, i·q)."""
    return x.reshape(x.shape[0], -1)


def _matrix(x):
    """(i, q, r) as (i·q, r)."""
    return float32(x).reshape(-1, x.shape[2])


# The smallest sizes for a product of tiles.
_call = partial(call, least={"q": 1, "r": 16})
