"""Sums over votes on a GPU with JAX, without writing votes to memory.

A vote is the product of a pose and a small matrix. Computing it again costs less than
reading it from memory. Each kernel computes the votes of a tile of images in registers
and writes sums only. `scores` sums over the components of a vote and `moments` over the
children. `gradient` computes the gradients of moments with respect to poses and
matrices. Sums over votes of vector poses that need no squares are products of matrices,
see `pallas_vectors`.

The axes of an array are named by letters, as in an einsum: `n` images, `i` children,
`j` parents, `t` polynomials or outer products, `p`, `q` and `r` rows and columns of
poses and matrices. A tile of votes has shape `(p, n, r)`, so that a thread reads a row
of its image at once. A vote of up to `NUMBERS` components fits into the registers of
one thread. A program is then one warp, and threads do not wait for each other.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from keras_capsules._backend import pallas_vectors, tiles
from keras_capsules._backend.pallas_calls import call, float32, fma, loop
from keras_capsules._backend.tiles import CHILDREN

IMAGES = 32  # images in a tile
NUMBERS = 16  # components of a vote in the registers of a thread
GRADIENTS = 16  # sums in `gradient`, one for each child and row of its matrix


@jax.jit
def scores(poses: Any, matrices: Any, center: tuple, coefficients: tuple) -> Any:
    """`Σ_h (c_j1h U_ijh + c_j2h U_ijh²)` with `U = V − center`.

    Args:
        poses: poses of the children, `(batch, children, P, Q)`.
        matrices: matrices of the children, `(children, Q, parents, R)`.
        center: a tuple of one tensor `(batch, parents, P, R)`; empty for zeros.
        coefficients: a tuple of `c_j1`, or of `c_j1` and `c_j2`, each
            `(batch, parents, polynomials, P, R)`.

    Returns:
        `(batch, parents, polynomials, children)`, float32.
    """
    if _are_vectors(poses, matrices, center):
        (coefficients,) = coefficients
        return pallas_vectors.scores(poses[:, :, 0], matrices, coefficients[..., 0, :])

    def kernel(poses, matrices, center, coefficients, out):
        center = [c[...] for c in center]  # (p, n, r)
        polynomials = [*zip(*(_each(c) for c in coefficients), strict=True)]

        def of_child(i, sums):
            u = _vote(_each(poses, i), _each(matrices, i), center)
            for t, (factor, *quadratic) in enumerate(polynomials):
                for square in quadratic:
                    factor = fma(square, u, factor)
                out[t, i] = (factor * u).sum(axis=2).sum(axis=0)  # (n,)
            return ()

        loop(CHILDREN, of_child, [])

    return _call(
        kernel,
        "nji",
        {"n": IMAGES, "j": None, "i": CHILDREN},
        {**_made_of(poses, matrices, center), "njtpr->jtpnr": coefficients},
        "jtin->njti",
        _warps(poses, matrices),
    )


@partial(jax.jit, static_argnames="powers")
def moments(poses: Any, matrices: Any, center: tuple, weights: Any, powers: int) -> Any:
    """`Σ_i w_ij U_ij` and, with two powers, `Σ_i w_ij U_ij²`.

    Args:
        poses, matrices, center: as for `scores`.
        weights: `(batch, parents, children)`, float32.
        powers: number of powers, 1 or 2.

    Returns:
        `(batch, powers, parents, P, R)`, float32.
    """
    if _are_vectors(poses, matrices, center):
        found = pallas_vectors.moments(poses[:, :, 0], matrices, weights)
        return found[:, None, :, None]
    images, parents, children = weights.shape
    warps = pl.cdiv(images, IMAGES) * parents * _warps(poses, matrices)
    children = tiles.children_of_a_program(children, CHILDREN, warps)

    def kernel(poses, matrices, center, weights, out):
        center = [c[...] for c in center]  # (p, n, r)

        def of_child(i, sums):
            u = _vote(_each(poses, i), _each(matrices, i), center)
            factor = weights[i][None, :, None]
            for total in sums:
                yield fma(factor, u, total)
                factor = factor * u

        zeros = jnp.zeros(out.shape[1:], jnp.float32)
        for k, total in enumerate(loop(children, of_child, [zeros] * powers)):
            out[k] = total

    found = _call(
        kernel,
        "nji",
        {"n": IMAGES, "j": None, "i": children},
        {**_made_of(poses, matrices, center), "nji->ijn": weights},
        "ckjpnr->cnkjpr",
        _warps(poses, matrices),
        k=powers,
    )
    return found.sum(axis=0)


@jax.jit
def gradient(
    poses: Any, matrices: Any, center: tuple, weights: tuple, slopes: tuple
) -> tuple[Any, Any]:
    """Computes the gradients of `Σ_t moments(w_t) · slope_t`.

    Args:
        poses, matrices, center: as for `scores`.
        weights: for each `t` a tensor `(batch, parents, children)`, float32.
        slopes: gradients of the moments, one tensor for each power,
            `(batch, parents, t, P, R)`, float32.

    Returns:
        The gradients with respect to poses and matrices, in their shapes, float32.
    """
    if _are_vectors(poses, matrices, center):
        found = pallas_vectors.gradient(
            poses[:, :, 0], matrices, weights, slopes[0][..., 0, :]
        )
        return found[0][:, :, None], found[1]
    q = poses.shape[3]
    children = min(max(GRADIENTS // q, 1), 4)  # computed together by a program
    group = range(children)

    def to_votes(columns, rows, center, weights, slopes):
        """Computes the gradients of the votes of some children for a parent."""
        linear, *steep = (_weighted_sums(weights, x) for x in slopes)
        for of_square in steep:
            for g in group:
                # d U² / dV = 2 U
                u = 2.0 * _vote(columns[g], rows[g], center)
                linear[g] = fma(u, of_square[g], linear[g])
        return linear

    def to_poses(poses, matrices, center, weights, slopes, out):
        def of_parent(j, sums):
            rows = [[*_each(matrices, g, j)] for g in group]
            columns = [[*_each(poses, g)] for g in group]
            w = [[x[g, j] for g in group] for x in weights]
            each = [_each(x, j) for x in slopes]
            to_vote = to_votes(columns, rows, [c[j] for c in center], w, each)
            sums = iter(sums)
            for g in group:
                for row in rows[g]:
                    yield next(sums) + (to_vote[g] * row).sum(axis=2)

        zeros = jnp.zeros(out.shape[2:], jnp.float32)
        sums = loop(slopes[0].shape[0], of_parent, [zeros] * (children * q))
        for index, x in enumerate(sums):
            out[index // q, index % q] = x

    def to_matrices(poses, matrices, center, weights, slopes, out):
        def of_images(n, sums):
            n = pl.ds(n * IMAGES, IMAGES)
            columns = [[*_each(poses, g, n=n)] for g in group]
            rows = [[*_each(matrices, g)] for g in group]
            w = [[x[g, n] for g in group] for x in weights]
            each = [_each(x, n=n) for x in slopes]
            to_vote = to_votes(columns, rows, [c[:, n] for c in center], w, each)
            sums = iter(sums)
            for g in group:
                for column in columns[g]:
                    yield next(sums) + (to_vote[g] * column[:, :, None]).sum(axis=0)

        zeros = jnp.zeros((IMAGES, out.shape[2]), jnp.float32)
        steps = poses.shape[3] // IMAGES
        sums = loop(steps, of_images, [zeros] * (children * q))
        for index, x in enumerate(sums):
            out[index // q, index % q] = x.sum(axis=0)

    inputs = {
        **_made_of(poses, matrices, center),
        "nji->ijn": weights,
        "njtpr->jtpnr": slopes,
    }
    blocks = {"n": IMAGES, "i": children}
    warps = _warps(poses, matrices)
    of_poses = _call(to_poses, "ni", blocks, inputs, "iqpn->nipq", warps)
    blocks = {"n": IMAGES, "j": None, "i": children}
    of_matrices = _call(to_matrices, "ij", blocks, inputs, "ijqr->iqjr", warps)
    return of_poses, of_matrices


def _are_vectors(poses, matrices, center):
    """Whether `pallas_vectors` can sum over these votes in its tiles."""
    small = max(poses.shape[3], matrices.shape[3]) <= pallas_vectors.WIDTH
    return poses.shape[2] == 1 and small and not center


def _warps(poses, matrices):
    """Returns the number of warps that share a tile."""
    p, r = (pl.next_power_of_2(n) for n in (poses.shape[2], matrices.shape[3]))
    return min(max(p * r // NUMBERS, 1), 8)


def _made_of(poses, matrices, center):
    """Returns the arrays that votes are computed from, as inputs of a kernel."""
    return {"nipq->iqpn": poses, "iqjr->ijqr": matrices, "njpr->jpnr": center}


def _each(array, *index, n=None):
    """Yields the columns of poses, the rows of matrices, or each slope."""
    of_images = () if n is None else (slice(None), n)
    for number in range(array.shape[len(index)]):
        yield float32(array[(*index, number, *of_images)])


def _vote(columns, rows, center):
    """Computes the votes of a child for a parent minus a center, `(p, n, r)`."""
    total = sum(-c for c in center) if center else None
    for x, y in zip(columns, rows, strict=True):
        total = _add(total, x[:, :, None], y)
    return total


def _weighted_sums(weights, slopes):
    """Computes `Σ_t w_tg x_t` for some children `g`, reading each slope once."""
    totals = [None] * len(weights[0])
    for of_product, slope in zip(weights, slopes, strict=True):
        totals = [
            _add(total, w[None, :, None], slope)
            for total, w in zip(totals, of_product, strict=True)
        ]
    return totals


def _add(total, x, y):
    return x * y if total is None else fma(x, y, total)


_call = partial(call, least={"p": 1, "r": 1})
