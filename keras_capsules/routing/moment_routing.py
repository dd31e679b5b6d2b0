import itertools
import math
from typing import Any

import keras
from keras import ops

from keras_capsules import arguments
from keras_capsules.ops import (
    ReceptiveFields,
    Votes,
    at_least_float32,
    by_child,
    fixed_loop,
    over_blocks,
    vjp,
)
from keras_capsules.routing.routing import Routing

# Components of votes that exist at a time: 64 MB in float32.
_BLOCK = 2**24


@keras.saving.register_keras_serializable(package="keras_capsules")
class MomentRouting(Routing):
    """Base class of the routings that see votes through their moments only.

    A parent needs sums over the votes it gets:

    - `m_j0 = Σ_i w_ij`, `m_j1 = Σ_i w_ij V_ij`, `m_j2 = Σ_i w_ij (V_ij − center_j)²`

    where the center is the mean vote of the first iteration.

    It answers with the coefficients of a polynomial, and a child scores the parent
    by it, summed over the components h of a vote:

    - `s_ij = c_j0 + Σ_h (c_j1h V_ijh + c_j2h (V_ijh − center_jh)²)`

    From its scores the child chooses the weights of the next iteration. So a
    routing is two functions, `assign` and `estimate`, of tensors that know nothing
    of votes.

    That is why votes never need to be kept. Images are routed in blocks; the votes
    of a block are made, serve all iterations, and are dropped. The gradient makes
    them once more. Between the two only moments are kept, `(batch, parents, …)`.
    The gradient of a vote is the sum of the outer products of weights with
    gradients of moments and of gradients of scores with coefficients, over all
    iterations: one matrix product for each power of the votes.

    Args:
        iterations: how many times the parents are computed, at least 1.
        stop_gradient: whether the choice of the children is taken as constant by
            the gradient.
        block: how many images are routed at a time. `None` chooses a power of 2:
            the votes of a block take 64 MB at most, unless the kernel or the votes
            of one image are larger.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Raises:
        ValueError: an argument is out of its range.

    Example:

    >>> from keras_capsules import routing
    >>> isinstance(routing.get("dynamic"), routing.MomentRouting)
    True

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        procedure 1, and Hinton, Sabour and Frosst, Matrix capsules with EM routing
        (2018), procedure 1: both alternate these two functions. Making votes again
        instead of keeping them is what Dao et al., FlashAttention (2022), section 3,
        does for the scores of attention.
    """

    # The degree of the polynomials and moments, 1 or 2.
    degree = 1
    # Whether a child adds up the scores of all iterations.
    remembers = False
    # Whether the iterations of the forward pass are one loop or are written out.
    loop = "unroll"

    def __init__(
        self,
        iterations: int = 3,
        stop_gradient: bool = False,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.iterations = arguments.positive_integer("iterations", iterations)
        self.stop_gradient = arguments.flag("stop_gradient", stop_gradient)
        if block is not None:
            arguments.positive_integer("block", block)
        self.block = block

    def get_config(self):
        return {
            **super().get_config(),
            "iterations": self.iterations,
            "stop_gradient": self.stop_gradient,
            "block": self.block,
        }

    # What a subclass says of itself.

    def assign(self, scores: Any, children: tuple, fields: ReceptiveFields) -> Any:
        """How much of each child each parent gets.

        Args:
            scores: how much speaks for a parent, `(batch, parents, children)`.
            children: what else counts of the children, tensors `(batch, children)`.
            fields: the receptive fields of the layer, or None.

        Returns:
            Weights of the shape of the scores.
        """
        raise NotImplementedError

    def begin(
        self, zeros: Any, parents: int, children: tuple, fields: ReceptiveFields
    ) -> Any:
        """`assign` where nothing speaks for any parent yet: all get the same.

        Args:
            zeros: `(batch, children)`.
            parents: how many there are.
            children: as for `assign`.
            fields: as for `assign`.

        Returns:
            What every parent gets of each child, of the shape of the zeros.
        """
        raise NotImplementedError

    def estimate(
        self, moments: tuple, t: int, center: Any, learned: tuple, fields: Any
    ) -> tuple[Any, tuple]:
        """What parents are, from the moments of the votes they get.

        Args:
            moments: as `ops.Votes.moments` returns them.
            t: the iteration, from 0; `None` inside a loop, whose passes are alike.
            center: the mean vote of the first iteration, `(batch, parents, P·R)`;
                squares are measured from there.
            learned: what the routing learns.
            fields: the receptive fields of the layer, or None.

        Returns:
            What the routing returns of parents, side by side in one tensor
            `(batch, parents, …)`, and the coefficients that `ops.Votes.scores` takes.
        """
        raise NotImplementedError

    # The algorithm.

    def route(
        self, poses: Any, kernel: Any, children: tuple, learned: tuple, fields: Any
    ) -> Any:
        """Routes all images, a block of them at a time.

        Args:
            poses: poses of the children, `(batch, children, P, Q)`.
            kernel: transformation matrices, `(children, parents, Q, R)`.
            children: what else counts of the children, tensors `(batch, children)`.
            learned: tensors that the routing learns.
            fields: the receptive fields of the layer, or None.

        Returns:
            The parents that `estimate` returns in the last iteration.

        Raises:
            ValueError: the shapes do not fit together.
        """
        matrices = by_child(poses, kernel)
        _check(poses, children, fields)
        positions = len(fields.positions) if fields else 1
        images = self.block or _images(kernel.shape, poses.shape[2], positions)
        dtype = _dtype(poses)
        n = len(children)

        @ops.custom_gradient
        def routed(poses, matrices, *others):
            children, learned = others[:n], others[n:]

            def forward(rows):
                poses, *children = rows
                return (), self._forward(poses, matrices, children, learned, fields)

            _, (outputs, *history) = over_blocks(
                forward,
                (poses, *children),
                images,
                totals=(),
                dtypes=(dtype,) * (1 + self.iterations * (1 + self.degree)),
                together=positions,
            )

            def gradient(*args, upstream=None):
                def backward(rows):
                    upstream, poses, *rows = rows
                    children, history = rows[:n], rows[n:]
                    return self._backward(
                        upstream, history, poses, matrices, children, learned, fields
                    )

                upstream = args[0] if upstream is None else upstream
                (to_matrices, *to_learned), (to_poses, *to_children) = over_blocks(
                    backward,
                    (upstream, poses, *children, *history),
                    images,
                    totals=tuple(map(at_least_float32, (matrices, *learned))),
                    dtypes=(dtype,) * (1 + n),
                    together=positions,
                )
                found = (to_poses, to_matrices, *to_children, *to_learned)
                pairs = zip(found, (poses, matrices, *others), strict=True)
                return tuple(ops.cast(dx, x.dtype) for dx, x in pairs)

            return outputs, gradient

        return routed(poses, matrices, *children, *learned)

    def _forward(self, poses, matrices, children, learned, fields):
        """Parents of a block, and the moments of every iteration in a row."""
        first = self._begin(poses, matrices, children, fields)
        votes = Votes(poses, matrices, first, self.degree)

        def iterate(c, moments, t):
            _, new = self.estimate(moments, t, votes.center, learned, fields)
            c = self._stated(c, new)
            weights = self.assign(votes.scores(c), children, fields)
            return c, votes.moments(weights)

        def shift(state):
            c, past = state
            c, new = iterate(c, tuple(m[:, -1] for m in past), None)
            new = zip(past, new, strict=True)
            return c, tuple(
                ops.concatenate([m[:, 1:], x[:, None]], axis=1) for m, x in new
            )

        m = votes.first_moments()
        last = self.iterations - 1
        if self.loop == "while":
            c = tuple(map(ops.zeros_like, m))
            past = tuple(ops.stack([x] * self.iterations, axis=1) for x in m)
            _, past = fixed_loop(shift, (c, past), last)
            history = list(zip(*(ops.unstack(x, axis=1) for x in past), strict=True))
        else:
            c, history = None, [m]
            for t in range(last):
                c, m = iterate(c, m, t)
                history.append(m)
        outputs, _ = self.estimate(history[-1], last, votes.center, learned, fields)
        return outputs, *itertools.chain(*history)

    def _backward(self, upstream, history, poses, matrices, children, learned, fields):
        """Gradients of (matrices, *learned) and of (poses, *children)."""

        # Of the poses it takes the shape only, but a routing may have no children's
        # tensors, and what has a gradient needs an argument.
        def begin(poses, *children):
            return self._begin(poses, matrices, children, fields)

        def assign(scores, *children):
            return self.assign(scores, children, fields)

        first, pull_first = vjp(begin, poses, *children)
        votes = Votes(poses, matrices, first, self.degree)
        last, powers = self.iterations - 1, self.degree + 1
        earliest = last if self.stop_gradient else 0

        stated, pulls = [], []
        for t in range(self.iterations):
            part = 0 if t == last else 1

            def estimate(*x, t=t, part=part):
                moments, learned = x[:powers], x[powers:]
                return self.estimate(moments, t, votes.center, learned, fields)[part]

            moments = history[t * powers : (t + 1) * powers]
            new, pull = vjp(estimate, *moments, *learned)
            pulls.append(pull)
            if t < last:
                stated.append(self._stated(stated[-1] if t else None, new))

        to_moments, to_learned = _split(pulls[last](upstream), powers)
        # The scores of all iterations and the first gradient of weights at once.
        c = zip(*stated, to_moments, strict=True)
        c = tuple(ops.stack(x, axis=2) for x in c)
        *scores, to_weights = ops.unstack(votes.scores(c), axis=2)

        weights, slopes, to_children, to_c = [], [], [], None
        for t in range(last, earliest - 1, -1):
            if t:
                w, pull = vjp(assign, scores[t - 1], *children)
                to_scores, *more = pull(to_weights)
            else:
                w = votes.first
                _, *more = pull_first(ops.sum(to_weights, axis=1))
            to_children = _add(to_children, more) if to_children else more
            weights.append(w)
            slopes.append(to_moments[1:])
            if t > earliest:
                to_c = self._stated(to_c, votes.moments(to_scores))
                weights.append(to_scores)
                slopes.append(stated[t - 1][1:])
                to_moments, more = _split(pulls[t - 1](*to_c), powers)
                to_learned = _add(to_learned, more)
                to_weights = votes.scores(to_moments)

        to_poses, to_matrices = votes.gradient(
            ops.stack(weights, axis=2),
            tuple(ops.stack(x, axis=2) for x in zip(*slopes, strict=True)),
        )
        found = (to_matrices, *to_learned), (to_poses, *to_children)
        return tuple(tuple(map(at_least_float32, x)) for x in found)

    def _begin(self, poses, matrices, children, fields):
        zeros = ops.zeros(ops.shape(poses)[:2], _dtype(poses))
        return self.begin(zeros, matrices.shape[2], children, fields)

    def _stated(self, before, new):
        """The coefficients that scores are made of."""
        if self.remembers and before is not None:
            return _add(before, new)
        return tuple(new)


def _add(xs, ys):
    return tuple(x + y for x, y in zip(xs, ys, strict=True))


def _split(xs, place):
    return tuple(xs[:place]), tuple(xs[place:])


def _dtype(poses):
    """That of everything but the votes' product: at least float32."""
    return keras.backend.result_type(poses.dtype, "float32")


def _check(poses, children, fields):
    batch, count = poses.shape[:2]
    for x in children:
        shape = arguments.shape("activations", x, "(batch, children)", 2)
        if shape[1] != count:
            raise ValueError(
                "Activations must have the shape (batch, children) of the poses, "
                f"{(batch, count)}. Received: {shape}"
            )
    if fields is None:
        return
    positions, places = fields.children.shape
    if places != count or (isinstance(batch, int) and batch % positions):
        raise ValueError(
            f"Argument `fields` has {positions} fields of {places} children; poses "
            "must have a row for each field of each image. Received: poses of shape "
            f"{tuple(poses.shape)}"
        )


def _images(kernel_shape, rows, positions):
    """How many images have as many vote components as a block may.

    A power of 2, as batches are: then no block has to be filled up.
    """
    kernel = math.prod(kernel_shape)
    of_an_image = positions * rows * kernel // kernel_shape[2]
    images = max(max(_BLOCK, kernel) // of_an_image, 1)
    return 2 ** (images.bit_length() - 1)
