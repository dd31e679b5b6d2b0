"""Sums over votes on a GPU with PyTorch, without writing votes to memory.

The functions and their arguments are those of `pallas_votes`, which explains them. Here
they are registered as PyTorch operations, so that PyTorch's compiler can call them. It
also needs functions that return the shapes and strides of the results.

Tiles have four axes: children `i`, rows `p`, columns `r` and images `n`. A tensor that
does not depend on one of them has size 1 there. In memory the images come last.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from keras_capsules._backend import tiles
from keras_capsules._backend.tiles import CHILDREN, IMAGES

GROUP = 2  # children whose gradients a program computes together

# With one warp, a thread has a whole vote in its registers and waits for no other.
ALONE = {"num_warps": 1, "enable_fp_fusion": True}


@torch.library.custom_op("keras_capsules::scores", mutates_args=())
def scores(
    poses: torch.Tensor,
    matrices: torch.Tensor,
    center: Sequence[torch.Tensor],
    coefficients: Sequence[torch.Tensor],
) -> torch.Tensor:
    """See `pallas_votes.scores`."""
    of, out = _Sizes(poses, matrices), _empty_scores(poses, matrices, coefficients)
    polynomials = coefficients[0].shape[2]
    # Coefficients of several polynomials would not fit into the registers.
    images = IMAGES if polynomials == 1 else IMAGES // 2
    _scores[of.tiles(images), of.parents, triton.cdiv(of.children, CHILDREN)](
        *_last(poses, matrices, center),
        *_both(coefficients, (2, 1, 3, 4, 0)),
        out,
        *of.numbers,
        **of.constants(images),
        T=polynomials,
        T2=triton.next_power_of_2(polynomials),
        STEPS=CHILDREN,
        SQUARES=len(coefficients) == 2,
        **ALONE,
    )
    return out.permute(3, 1, 0, 2)


@scores.register_fake
def _(poses, matrices, center, coefficients):
    return _empty_scores(poses, matrices, coefficients).permute(3, 1, 0, 2)


def _empty_scores(poses, matrices, coefficients):
    of = _Sizes(poses, matrices)
    return of.empty(coefficients[0].shape[2], of.parents, of.children, of.images)


@torch.library.custom_op("keras_capsules::moments", mutates_args=())
def moments(
    poses: torch.Tensor,
    matrices: torch.Tensor,
    center: Sequence[torch.Tensor],
    weights: torch.Tensor,
    powers: int,
) -> torch.Tensor:
    """See `pallas_votes.moments`."""
    of = _Sizes(poses, matrices)
    warps = of.tiles(IMAGES) * of.parents
    steps = tiles.children_of_a_program(of.children, CHILDREN, warps)
    parts = triton.cdiv(of.children, steps)
    out = of.empty(parts, powers, of.parents, of.rows, of.columns, of.images)
    _moments[of.tiles(IMAGES), of.parents, parts](
        *_last(poses, matrices, center),
        _arranged(weights, (1, 2, 0)),
        out,
        *of.numbers,
        **of.constants(IMAGES),
        STEPS=steps,
        SQUARES=powers == 2,
        **ALONE,
    )
    return out.sum(0).permute(4, 0, 1, 2, 3)


@moments.register_fake
def _(poses, matrices, center, weights, powers):
    of = _Sizes(poses, matrices)
    out = of.empty(powers, of.parents, of.rows, of.columns, of.images)
    return out.permute(4, 0, 1, 2, 3)


@torch.library.custom_op("keras_capsules::gradient", mutates_args=())
def gradient(
    poses: torch.Tensor,
    matrices: torch.Tensor,
    center: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    slopes: Sequence[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `pallas_votes.gradient`."""
    of = _Sizes(poses, matrices)
    to_poses, to_matrices = _empty_gradients(poses, matrices)
    images = IMAGES // 2
    arguments = (
        *_last(poses, matrices, center),
        torch.stack([w.permute(1, 2, 0) for w in weights]),
        *_both(slopes, (2, 1, 3, 4, 0)),
    )
    constants = {
        **of.constants(images),
        "T": len(weights),
        "G": GROUP,
        "Q2": triton.next_power_of_2(of.q),
        "SQUARES": len(slopes) == 2,
        "num_warps": 4,
        "enable_fp_fusion": True,
    }
    groups = triton.cdiv(of.children, GROUP)
    _to_poses[of.tiles(images), groups](*arguments, to_poses, *of.numbers, **constants)
    _to_matrices[groups, of.parents](*arguments, to_matrices, *of.numbers, **constants)
    return to_poses.permute(3, 0, 1, 2), to_matrices.permute(0, 2, 1, 3)


@gradient.register_fake
def _(poses, matrices, center, weights, slopes):
    to_poses, to_matrices = _empty_gradients(poses, matrices)
    return to_poses.permute(3, 0, 1, 2), to_matrices.permute(0, 2, 1, 3)


def _empty_gradients(poses, matrices):
    of = _Sizes(poses, matrices)
    to_poses = of.empty(of.children, of.rows, of.q, of.images)
    return to_poses, of.empty(of.children, of.parents, of.q, of.columns)


class _Sizes:
    """Sizes of the arrays of the kernels."""

    def __init__(self, poses, matrices):
        self.images, self.children, self.rows, self.q = poses.shape
        self.parents, self.columns = matrices.shape[2:]
        of_images = self.images, self.children, self.parents
        self.numbers = *of_images, self.rows, self.columns
        self._device = poses.device

    def tiles(self, images):
        return triton.cdiv(self.images, images)

    def constants(self, images):
        return {
            "Q": self.q,
            "P": triton.next_power_of_2(self.rows),
            "R": triton.next_power_of_2(self.columns),
            "N": images,
        }

    def empty(self, *shape):
        return torch.empty(shape, dtype=torch.float32, device=self._device)


def _last(poses, matrices, center):
    """Returns poses, matrices and the center with the images last."""
    poses = _arranged(poses, (1, 2, 3, 0))
    center = _arranged(center[0], (1, 2, 3, 0)) if center else poses
    return poses, _arranged(matrices, (0, 2, 1, 3)), center


def _both(tensors, axes):
    """Returns two tensors; kernels do not read the second if only one is given."""
    first, *others = (_arranged(x, axes) for x in tensors)
    return first, *(others or [first])


def _arranged(x, axes):
    return x.permute(axes).contiguous()


@triton.jit
def _load(pointer, mask):
    return tl.load(pointer, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _axes(P: tl.constexpr, R: tl.constexpr, tile, N: tl.constexpr):
    """Returns indices of rows, columns and images along the axes of a tile."""
    rows = tl.arange(0, P)[None, :, None, None]
    columns = tl.arange(0, R)[None, None, :, None]
    return rows, columns, (tile * N + tl.arange(0, N))[None, None, None, :]


@triton.jit
def _votes(
    poses, matrices, center, i, j, rows, columns, n, batch, children, parents, p, r,
    Q: tl.constexpr,
):  # fmt: skip
    """Computes votes of children for a parent minus a center, `(i, p, r, n)`."""
    u = 0.0 - center
    for q in tl.static_range(Q):
        pose = _load(
            poses + ((i * p + rows) * Q + q) * batch + n,
            (i < children) & (rows < p) & (n < batch),
        )
        row = _load(
            matrices + ((i * parents + j) * Q + q) * r + columns,
            (i < children) & (columns < r),
        )
        u += pose * row
    return u


@triton.jit
def _scores(
    poses, matrices, center, linear, quadratic, out, batch, children, parents, p, r,
    Q: tl.constexpr, P: tl.constexpr, R: tl.constexpr, N: tl.constexpr, T: tl.constexpr,
    T2: tl.constexpr, STEPS: tl.constexpr, SQUARES: tl.constexpr,
):  # fmt: skip
    rows, columns, n = _axes(P, R, tl.program_id(0), N)
    j = tl.program_id(1).to(tl.int64)
    inside = (rows < p) & (columns < r) & (n < batch)
    of_parent = ((j * p + rows) * r + columns) * batch + n
    # The polynomials use the axis of the children.
    t = tl.arange(0, T2).to(tl.int64)[:, None, None, None]
    of_polynomial = t * parents * p * r * batch + of_parent
    c1 = _load(linear + of_polynomial, (t < T) & inside)
    c = tl.zeros((1, 1, 1, 1), tl.float32)
    if SQUARES:
        c2 = _load(quadratic + of_polynomial, (t < T) & inside)
        c = _load(center + of_parent, inside)
    first = tl.program_id(2).to(tl.int64) * STEPS
    for number in range(first, min(first + STEPS, children)):
        i = tl.full((1, 1, 1, 1), number, tl.int64)
        u = _votes(
            poses, matrices, c, i, j, rows, columns, n, batch, children, parents, p, r,
            Q,
        )  # fmt: skip
        terms = c1 * u
        if SQUARES:
            terms += c2 * u * u
        total = tl.sum(tl.sum(terms, 2, keep_dims=True), 1, keep_dims=True)
        to = ((t * parents + j) * children + i) * batch + n
        tl.store(out + to, total, (t < T) & (n < batch))


@triton.jit
def _moments(
    poses, matrices, center, weights, out, batch, children, parents, p, r,
    Q: tl.constexpr, P: tl.constexpr, R: tl.constexpr, N: tl.constexpr,
    STEPS: tl.constexpr, SQUARES: tl.constexpr,
):  # fmt: skip
    rows, columns, n = _axes(P, R, tl.program_id(0), N)
    j = tl.program_id(1).to(tl.int64)
    inside = (rows < p) & (columns < r) & (n < batch)
    of_parent = ((j * p + rows) * r + columns) * batch + n
    c = tl.zeros((1, 1, 1, 1), tl.float32)
    if SQUARES:
        c = _load(center + of_parent, inside)
    part = tl.program_id(2).to(tl.int64)
    first = tl.zeros((1, P, R, N), tl.float32)
    second = tl.zeros((1, P, R, N), tl.float32)
    for number in range(part * STEPS, min((part + 1) * STEPS, children)):
        i = tl.full((1, 1, 1, 1), number, tl.int64)
        u = _votes(
            poses, matrices, c, i, j, rows, columns, n, batch, children, parents, p, r,
            Q,
        )  # fmt: skip
        w = _load(weights + (j * children + i) * batch + n, n < batch)
        first += w * u
        if SQUARES:
            second += w * u * u
    powers = 2 if SQUARES else 1
    to = out + part * powers * parents * p * r * batch + of_parent
    tl.store(to, first, inside)
    if SQUARES:
        tl.store(to + parents * p * r * batch, second, inside)


@triton.jit
def _to_votes(
    poses, matrices, center, weights, slopes, steep, i, j, rows, columns, n, batch,
    children, parents, p, r, Q: tl.constexpr, T: tl.constexpr, SQUARES: tl.constexpr,
):  # fmt: skip
    """Computes gradients of votes of children for a parent, `(i, p, r, n)`."""
    inside = (rows < p) & (columns < r) & (n < batch)
    of_parent = ((j * p + rows) * r + columns) * batch + n
    dv = tl.zeros((1, 1, 1, 1), tl.float32)
    half = tl.zeros((1, 1, 1, 1), tl.float32)
    for t in tl.static_range(T):
        w = _load(
            weights + ((t * parents + j) * children + i) * batch + n,
            (i < children) & (n < batch),
        )
        dv += w * _load(slopes + t * parents * p * r * batch + of_parent, inside)
        if SQUARES:
            half += w * _load(steep + t * parents * p * r * batch + of_parent, inside)
    if SQUARES:
        # d U² / dV = 2 U
        c = _load(center + of_parent, inside)
        u = _votes(
            poses, matrices, c, i, j, rows, columns, n, batch, children, parents, p, r,
            Q,
        )  # fmt: skip
        dv += 2.0 * u * half
    return dv


@triton.jit
def _to_poses(
    poses, matrices, center, weights, slopes, steep, out, batch, children, parents, p,
    r, Q: tl.constexpr, P: tl.constexpr, R: tl.constexpr, N: tl.constexpr,
    T: tl.constexpr, G: tl.constexpr, Q2: tl.constexpr, SQUARES: tl.constexpr,
):  # fmt: skip
    rows, columns, n = _axes(P, R, tl.program_id(0), N)
    i = tl.program_id(1).to(tl.int64) * G + tl.arange(0, G)[:, None, None, None]
    q = tl.arange(0, Q2)[:, None, None, None, None]
    total = tl.zeros((Q2, G, P, R, N), tl.float32)
    for j in range(0, parents):
        dv = _to_votes(
            poses, matrices, center, weights, slopes, steep, i, j, rows, columns, n,
            batch, children, parents, p, r, Q, T, SQUARES,
        )  # fmt: skip
        row = _load(
            matrices + ((i * parents + j) * Q + q) * r + columns,
            (q < Q) & (i < children) & (columns < r),
        )
        total += dv[None] * row
    total = tl.sum(total, 3, keep_dims=True)
    to = ((i * p + rows) * Q + q) * batch + n
    tl.store(out + to, total, (q < Q) & (i < children) & (rows < p) & (n < batch))


@triton.jit
def _to_matrices(
    poses, matrices, center, weights, slopes, steep, out, batch, children, parents, p,
    r, Q: tl.constexpr, P: tl.constexpr, R: tl.constexpr, N: tl.constexpr,
    T: tl.constexpr, G: tl.constexpr, Q2: tl.constexpr, SQUARES: tl.constexpr,
):  # fmt: skip
    i = tl.program_id(0).to(tl.int64) * G + tl.arange(0, G)[:, None, None, None]
    j = tl.program_id(1).to(tl.int64)
    q = tl.arange(0, Q2)[:, None, None, None, None]
    total = tl.zeros((Q2, G, P, R, N), tl.float32)
    for tile in range(0, tl.cdiv(batch, N)):
        rows, columns, n = _axes(P, R, tile, N)
        dv = _to_votes(
            poses, matrices, center, weights, slopes, steep, i, j, rows, columns, n,
            batch, children, parents, p, r, Q, T, SQUARES,
        )  # fmt: skip
        column = _load(
            poses + ((i * p + rows) * Q + q) * batch + n,
            (q < Q) & (i < children) & (rows < p) & (n < batch),
        )
        total += dv[None] * column
    total = tl.sum(tl.sum(total, 4, keep_dims=True), 2, keep_dims=True)
    _, columns, _ = _axes(P, R, 0, N)
    to = ((i * parents + j) * Q + q) * r + columns
    tl.store(out + to, total, (q < Q) & (i < children) & (columns < r))
