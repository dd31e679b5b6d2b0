"""Sums over votes on a GPU with JAX, for which no vote is written to memory.

A vote is a product of a pose and a small matrix: making it again costs less than
reading it. Each kernel makes the votes of a tile of images in registers and writes
sums: `scores` over the components of a vote, `moments` over the children, `gradient`
what the gradients of moments give to the poses and the matrices.

The axes of an array are named by letters, as in an einsum: `n` images, `i` children,
`j` parents, `t` polynomials or outer products, `p`, `q` and `r` rows and columns of
poses and matrices. Within a kernel the images come last: neighbouring threads then
read neighbouring numbers, and one number of a matrix serves a whole tile.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

from keras_capsules._backend import tiles
from keras_capsules._backend.tiles import CHILDREN, GROUP, IMAGES

INTERPRET = False  # on a processor, for tests


@jax.jit
def scores(poses: Any, matrices: Any, center: tuple, coefficients: tuple) -> Any:
    """`Σ_h (c_j1h U_ijh + c_j2h U_ijh²)` with `U = V − center`.

    Args:
        poses: poses of the children, `(batch, children, P, Q)`.
        matrices: the kernel by child, `(children, Q, parents, R)`.
        center: one tensor `(batch, parents, P, R)`, or none for a center of zeros.
        coefficients: `c_j1`, or `c_j1` and `c_j2`, each
            `(batch, parents, polynomials, P, R)`.

    Returns:
        `(batch, parents, polynomials, children)`, float32.
    """
    polynomials = coefficients[0].shape[2]
    # Coefficients of several polynomials would not fit into the registers.
    images = IMAGES if polynomials == 1 else IMAGES // 2

    def kernel(poses, matrices, center, coefficients, out):
        center = [c[...] for c in center]  # (p, r, n)
        coefficients = [[c[t] for t in range(polynomials)] for c in coefficients]

        def of_child(i, sums):
            u = _vote(_each(poses, i), _each(matrices, i), center)
            for t in range(polynomials):
                terms = coefficients[0][t] * u
                for quadratic in coefficients[1:]:
                    terms += quadratic[t] * u * u
                out[t, i] = terms.sum(axis=0).sum(axis=0)  # (n,)
            return ()

        _loop(CHILDREN, of_child, [])

    return _call(
        kernel,
        "nji",
        {"n": images, "j": None, "i": CHILDREN},
        {**_made_of(poses, matrices, center), "njtpr->jtprn": coefficients},
        "jtin->njti",
    )


@partial(jax.jit, static_argnames="powers")
def moments(poses: Any, matrices: Any, center: tuple, weights: Any, powers: int) -> Any:
    """`Σ_i w_ij U_ij` and, of two powers, `Σ_i w_ij U_ij²`.

    Args:
        poses, matrices, center: as of `scores`.
        weights: `(batch, parents, children)`, float32.
        powers: 1 or 2.

    Returns:
        `(batch, powers, parents, P, R)`, float32.
    """

    children = tiles.children_of_a_program(*weights.shape)

    def kernel(poses, matrices, center, weights, out):
        center = [c[...] for c in center]  # (p, r, n)

        def of_child(i, sums):
            u = _vote(_each(poses, i), _each(matrices, i), center)
            for x in sums:
                yield x + weights[i] * u
                u = u * u

        zeros = jnp.zeros(out.shape[1:], jnp.float32)
        sums = _loop(children, of_child, [zeros] * powers)
        for k, x in enumerate(sums):
            out[k] = x

    found = _call(
        kernel,
        "nji",
        {"n": IMAGES, "j": None, "i": children},
        {**_made_of(poses, matrices, center), "nji->jin": weights},
        "cjkprn->cnkjpr",
        k=powers,
    )
    return found.sum(axis=0)


@jax.jit
def gradient(
    poses: Any, matrices: Any, center: tuple, weights: tuple, slopes: tuple
) -> tuple[Any, Any]:
    """What `Σ_t moments(w_t) · slope_t` gives to the poses and to the matrices.

    Args:
        poses, matrices, center: as of `scores`.
        weights: for each `t` a tensor `(batch, parents, children)`, float32.
        slopes: gradients of the moments, one tensor for each power,
            `(batch, parents, t, P, R)`, float32.

    Returns:
        The gradients of the poses and of the matrices, in their shapes, float32.
    """
    products, q, tile = len(weights), poses.shape[3], IMAGES // 2

    def to_vote(columns, rows, center, weights, slopes):
        """The gradient of the votes of a child for a parent."""
        terms = [sum(w * s for w, s in zip(weights, x, strict=True)) for x in slopes]
        if len(terms) == 1:
            return terms[0]
        # d U² / dV = 2 U
        return terms[0] + 2.0 * _vote(columns, rows, center) * terms[1]

    def to_poses(poses, matrices, center, weights, slopes, out):
        columns = [_each(poses, g) for g in range(GROUP)]

        def of_parent(j, sums):
            c = [x[j] for x in center]
            s = [[x[j, t] for t in range(products)] for x in slopes]
            sums = iter(sums)
            for g in range(GROUP):
                rows = _each(matrices, g, j)
                w = [x[j, g] for x in weights]
                dv = to_vote(columns[g], rows, c, w, s)  # (p, r, n)
                for row in rows:
                    yield next(sums) + dv * row[None, :, None]

        zeros = jnp.zeros(slopes[0].shape[2:], jnp.float32)
        sums = _loop(slopes[0].shape[0], of_parent, [zeros] * (GROUP * q))
        for index, x in enumerate(sums):
            out[index // q, :, index % q] = x.sum(axis=1)

    def to_matrices(poses, matrices, center, weights, slopes, out):
        rows = [_each(matrices, g) for g in range(GROUP)]

        def of_images(n, sums):
            n = pl.ds(n * tile, tile)
            c = [x[:, :, n] for x in center]
            s = [[x[t, :, :, n] for t in range(products)] for x in slopes]
            sums = iter(sums)
            for g in range(GROUP):
                columns = [_float32(poses[g, :, k, n]) for k in range(q)]
                w = [x[g, n] for x in weights]
                dv = to_vote(columns, rows[g], c, w, s)  # (p, r, n)
                for column in columns:
                    yield next(sums) + dv * column[:, None]

        zeros = jnp.zeros((*slopes[0].shape[1:3], tile), jnp.float32)
        tiles = poses.shape[3] // tile
        sums = _loop(tiles, of_images, [zeros] * (GROUP * q))
        for index, x in enumerate(sums):
            out[index // q, index % q] = x.sum(axis=2).sum(axis=0)

    inputs = {
        **_made_of(poses, matrices, center),
        "nji->jin": weights,
        "njtpr->jtprn": slopes,
    }
    blocks = {"n": tile, "i": GROUP}
    of_poses = _call(to_poses, "ni", blocks, inputs, "ipqn->nipq", warps=4)
    blocks = {"n": tile, "j": None, "i": GROUP}
    of_matrices = _call(to_matrices, "ij", blocks, inputs, "ijqr->iqjr", warps=4)
    return of_poses, of_matrices


def _made_of(poses, matrices, center):
    """What votes are made of, as inputs of a kernel."""
    return {"nipq->ipqn": poses, "iqjr->ijqr": matrices, "njpr->jprn": center}


def _each(array, *index):
    """The columns of poses, or the rows of matrices."""
    if array.ndim - len(index) == 3:
        index = (*index, slice(None))
    return [_float32(array[(*index, q)]) for q in range(array.shape[-2])]


def _float32(x):
    return x.astype(jnp.float32)


def _vote(columns, rows, center):
    """The votes of a child for a parent, from a center, `(p, r, n)`."""
    products = (
        x[:, None] * y[None, :, None] for x, y in zip(columns, rows, strict=True)
    )
    return sum(products) - sum(center)


def _loop(times, step, sums):
    """Sums after all steps, each of which yields them anew."""
    return jax.lax.fori_loop(0, times, lambda i, sums: list(step(i, sums)), sums)


def _call(
    kernel: Callable,
    grid: str,
    blocks: dict,
    inputs: dict,
    output: str,
    warps: int = 1,
    **sizes: int,
) -> Any:
    """Calls a kernel with the blocks of its arrays that belong to a program.

    Axes are filled up to whole blocks, P and R to powers of 2, with zeros, which add
    nothing to any sum.

    Args:
        kernel: function of a reference or a list of them for each input, and of one
            for the output.
        grid: the axes along which there are several programs.
        blocks: how much of an axis of the grid a program has, `None` for one without
            an axis; of another axis the number that its size is made a multiple of.
        inputs: an array, or a tuple of arrays, for each form "given->wanted".
        output: the form of the output. In it `c` are the programs along the children.
        warps: how many warps share the tile of a program. One has a whole vote in the
            registers of a thread: no thread waits for another.
        **sizes: of axes that no input has.

    Returns:
        The output, float32.
    """
    for form, tensors in inputs.items():
        for x in tensors if isinstance(tensors, tuple) else (tensors,):
            sizes.update(zip(form, x.shape, strict=False))
    whole = {**sizes, **{a: pl.next_power_of_2(sizes[a]) for a in "pr"}}
    for a, block in blocks.items():
        whole[a] = pl.cdiv(sizes[a], block or 1) * (block or 1)
    programs = {a: whole[a] // (blocks[a] or 1) for a in grid}
    order, blocks = dict(zip(grid, range(3), strict=False)), dict(blocks)
    if "i" in grid:
        whole["c"] = sizes["c"] = programs["i"]
        order["c"], blocks["c"] = order["i"], None

    def spec(axes):
        def index(*program):
            return tuple(program[order[a]] if a in order else 0 for a in axes)

        block = [blocks[a] if a in order else whole[a] for a in axes]
        return pl.BlockSpec(block, index)

    def arranged(form, x):
        if isinstance(x, tuple):
            return tuple(arranged(form, part) for part in x)
        given, wanted = form.split("->")
        x = jnp.transpose(x, [given.index(a) for a in wanted])
        return jnp.pad(x, [(0, whole[a] - sizes[a]) for a in wanted])

    def spec_of(form, x):
        of_one = spec(form.split("->")[1])
        return (of_one,) * len(x) if isinstance(x, tuple) else of_one

    axes, wanted = output.split("->")
    found = pl.pallas_call(
        kernel,
        jax.ShapeDtypeStruct([whole[a] for a in axes], jnp.float32),
        grid=tuple(programs.values()),
        in_specs=[spec_of(form, x) for form, x in inputs.items()],
        out_specs=spec(axes),
        compiler_params=triton.CompilerParams(num_warps=warps),
        interpret=INTERPRET,
    )(*(arranged(form, x) for form, x in inputs.items()))
    found = found[tuple(slice(sizes[a]) for a in axes)]
    return jnp.transpose(found, [axes.index(a) for a in wanted])
