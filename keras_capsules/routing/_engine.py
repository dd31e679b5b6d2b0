"""The engine of `MomentRouting`: blocks, recomputation and the backward pass.

A batch is cut into blocks of images. The votes of a block are computed once, used by
all iterations, and dropped; only the moments of every iteration are stored. The
backward pass computes the votes again. The gradient of a vote is a sum over all
iterations of two outer products: of weights and gradients of moments, and of gradients
of scores and coefficients of scores.
"""

import itertools
import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from keras import ops

from keras_capsules._backend import (
    accelerator_memory,
    compiled,
    custom_gradient,
    fixed_loop,
    fused_sums,
    or_zeros,
    over_blocks,
    vjp,
)
from keras_capsules._backend.tiles import IMAGES
from keras_capsules.ops import at_least_float32
from keras_capsules.ops.votes import kernel_by_child
from keras_capsules.routing._block_votes import BlockVotes
from keras_capsules.routing._fused_votes import FusedVotes
from keras_capsules.routing._hooks import Hooks

# How many components of votes a block may have: 16 MB in float32, about the size of a
# processor's caches. On an accelerator the votes of a block may take a fortieth of the
# memory; a step takes about five times as much as the votes. With dynamic routing and a
# batch of 512 on an H200, a single block took 2.0 ms, blocks of 64 MB took 3.7 ms.
_BLOCK = 2**22
_SHARE = 40
# Where votes are not stored, how many weights a block may have: 64 MB, and a step takes
# ten times as much; or half as many as the kernel has elements, if that is more,
# because a step reads the kernel ten times per block.
_WEIGHTS = 2**24
# The number of children to assume where it is not known before a graph runs.
_CHILDREN = 1024


def route(routing: Any, kernel: Any, inputs: Any) -> dict:
    """Routes a batch, one block of images at a time.

    Args:
        routing: the `MomentRouting`.
        kernel: transformation matrices, `(children, parents, Q, R)`.
        inputs: the `RoutingInputs`.

    Returns:
        `parents` `(batch, parents, P·R)` and, if the routing computes them,
        `activations` `(batch, parents)` of the last iteration.
    """
    hooks = Hooks(routing, inputs, kernel.shape)
    fields = len(inputs.receptive_fields.positions)
    kept = fused_sums(hooks.dtype) is None
    size = images_of_a_block(kernel.shape, inputs.poses.shape[2], fields, kept)
    in_blocks = partial(over_blocks, size=routing.block or size, together=fields)

    def forward(matrices, *context):
        return _forward_in_blocks(hooks, in_blocks, matrices, context)

    def backward(upstream, history, matrices, *context):
        rows = upstream, *history
        found = _backward_in_blocks(hooks, in_blocks, rows, matrices, context)
        pairs = zip(found, (matrices, *context), strict=True)
        return tuple(ops.cast(gradient, x.dtype) for gradient, x in pairs)

    def plain(matrices, *context):
        return _plain(hooks, matrices, context)

    forward = compiled(forward, routing, "forward", hooks.constants)
    backward = compiled(backward, routing, "backward", hooks.constants)
    context = (*hooks.rows(inputs), *hooks.learned())
    tensors = kernel_by_child(kernel), *context
    output = custom_gradient(forward, backward, plain, *tensors)
    return hooks.unpacked(output)


def steps(routing: Any, kernel: Any, inputs: Any) -> Iterator[dict]:
    """Yields the results of each iteration, with the whole batch as one block.

    Args:
        routing: the `MomentRouting`.
        kernel: transformation matrices, `(children, parents, Q, R)`.
        inputs: the `RoutingInputs`.

    Yields:
        A dict with `scores` and `weights`, `(batch, parents, children)`, and all that
        `update_parents` returns.
    """
    hooks = Hooks(routing, inputs, kernel.shape)
    context = (*hooks.rows(inputs), *hooks.learned())
    weights = hooks.initial_weights(*context)
    votes = _votes(hooks, kernel_by_child(kernel), context, weights)
    for scores, weights, _, found in _iterations(hooks, votes, context):
        yield {**found, "scores": scores, "weights": weights}


def images_of_a_block(
    kernel_shape: tuple, rows: int, fields: int, kept: bool = True
) -> int:
    """Computes how many images a block may have.

    The number is a power of 2, as most batch sizes are, so that blocks need no padding.

    Args:
        kernel_shape: `(children, parents, Q, R)`; `children` is `None` if unknown.
        rows: number of rows P of a pose.
        fields: number of receptive fields of an image.
        kept: whether the votes of a block are stored in memory.

    Returns:
        The number of images, at least 1.
    """
    if kernel_shape[0] is None:
        kernel_shape = (_CHILDREN, *kernel_shape[1:])
    children, parents, _, columns = kernel_shape
    of_an_image = fields * children * parents
    if kept:
        of_an_image *= rows * columns
        most = (accelerator_memory() or 0) // (4 * _SHARE)
        most = max(most, _BLOCK, math.prod(kernel_shape))
    else:
        # With fewer rows than a tile has, the kernels would pad the tile.
        most = max(_WEIGHTS, IMAGES * children * parents, math.prod(kernel_shape) // 2)
    images = max(most // of_an_image, 1)
    return 2 ** (images.bit_length() - 1)


def _votes(hooks, matrices, context, initial_weights):
    """Returns the votes of a block, with the moments of the first iteration."""
    arguments = context[0], matrices, initial_weights, hooks.second_moments
    kernels = fused_sums(hooks.dtype)
    return FusedVotes(kernels, *arguments) if kernels else BlockVotes(*arguments)


# The forward pass.


def _forward_in_blocks(hooks, in_blocks, matrices, context):
    """Returns the parents of a batch, and the moments of all iterations in a row."""
    rows, learned = hooks.rows_and_learned(context)

    def block(rows):
        return (), _forward(hooks, matrices, (*rows, *learned))

    dtypes = (hooks.dtype,) * (1 + hooks.iterations * hooks.powers)
    _, (output, *history) = in_blocks(block, rows, totals=(), dtypes=dtypes)
    return output, tuple(history)


def _iterations(hooks, votes, context):
    """Yields the scores, weights, moments and parents of each iteration."""
    weights, moments = votes.initial_weights, votes.initial_moments
    scores, coefficients = ops.zeros_like(weights), None
    for t in range(hooks.iterations):
        found = hooks.update_parents(t, votes.center, moments, context)
        yield scores, weights, moments, found
        if t + 1 < hooks.iterations:
            new = hooks.score_coefficients(found, votes.center, context)
            coefficients = hooks.accumulated(coefficients, new)
            scores = votes.scores(coefficients)  # (batch, parents, children)
            weights = hooks.update_weights(scores, *context)
            moments = votes.moments(weights)


def _forward(hooks, matrices, context):
    """Returns the parents of a block, and the moments of all iterations in a row."""
    votes = _votes(hooks, matrices, context, hooks.initial_weights(*context))
    if hooks.loop == "while" and hooks.iterations > 1:
        history = _loop(hooks, votes, context)
        last = hooks.iterations - 1
        found = hooks.update_parents(last, votes.center, history[-1], context)
    else:
        iterations = list(_iterations(hooks, votes, context))
        history = [moments for _, _, moments, _ in iterations]
        found = iterations[-1][-1]
    return hooks.packed(found), *itertools.chain(*history)


def _plain(hooks, matrices, context):
    """Returns the parents of a batch, for a gradient that stores all votes."""
    weights = hooks.initial_weights(*context)
    votes = BlockVotes(context[0], matrices, weights, hooks.second_moments)
    *_, (*_, found) = _iterations(hooks, votes, context)
    return hooks.packed(found)


def _loop(hooks, votes, context):
    """Returns the moments of every iteration, computed by one loop in the graph."""

    def step(state):
        t, coefficients, past = state
        moments = tuple(m[:, -1] for m in past)
        found = hooks.update_parents(t, votes.center, moments, context)
        new = hooks.score_coefficients(found, votes.center, context)
        coefficients = hooks.accumulated(coefficients, new)
        weights = hooks.update_weights(votes.scores(coefficients), *context)
        new = zip(past, votes.moments(weights), strict=True)
        past = tuple(ops.concatenate([m[:, 1:], x[:, None]], axis=1) for m, x in new)
        return t + 1, coefficients, past

    moments = votes.initial_moments
    zeros = tuple(map(ops.zeros_like, moments))
    # (batch, iterations, parents, …), the latest last
    past = tuple(ops.stack([m] * hooks.iterations, axis=1) for m in moments)
    start = ops.convert_to_tensor(0, hooks.dtype)
    _, _, past = fixed_loop(step, (start, zeros, past), hooks.iterations - 1)
    return list(zip(*(ops.unstack(m, axis=1) for m in past), strict=True))


# The backward pass.


def _backward_in_blocks(hooks, in_blocks, rows, matrices, context):
    """Returns the gradients of the matrices and of the context of a batch."""
    given, learned = hooks.rows_and_learned(context)
    count = len(given)

    def block(rows):
        upstream, *rows = rows
        given, history = rows[:count], rows[count:]
        context = (*given, *learned)
        found = _backward(hooks, upstream, history, matrices, context)
        to_matrices, *to_context = map(at_least_float32, found)
        return (to_matrices, *to_context[count:]), tuple(to_context[:count])

    totals = tuple(map(at_least_float32, (matrices, *learned)))
    # The gradients are linear in the upstream gradient, which stands first: copies of
    # other rows, which pad the last block, do not change the sums.
    upstream, *history = rows
    (to_matrices, *to_learned), to_given = in_blocks(
        block,
        (upstream, *given, *history),
        totals=totals,
        dtypes=(hooks.dtype,) * count,
    )
    return to_matrices, *to_given, *to_learned


def _backward(hooks, upstream, history, matrices, context):
    """Returns the gradients of the matrices and of the context of a block."""
    weights, pull_initial = vjp(hooks.initial_weights, *context)
    votes = _votes(hooks, matrices, context, weights)
    coefficients, pulls = _replay(hooks, votes, history, context)
    to_moments, to_context = _split(pulls[-1](upstream), votes)
    scores, to_weights = _all_scores(votes, coefficients, to_moments)

    outer, to_coefficients = [], None  # pairs of factors of the outer products
    first = hooks.iterations - 1 if hooks.stop_gradient else 0
    for t in reversed(range(first, hooks.iterations)):
        if t:
            w, pull = vjp(hooks.update_weights, scores[t - 1], *context)
            to_scores, *pulled = pull(to_weights)
        else:
            w = votes.initial_weights
            if weights.shape[1] == 1:
                to_weights = ops.sum(to_weights, axis=1, keepdims=True)
            pulled = pull_initial(to_weights)
        to_context = _add(to_context, pulled)
        outer.append((w, to_moments))
        if t > first:
            if to_scores is None:
                to_scores = ops.zeros_like(w)
            outer.append((to_scores, coefficients[t - 1]))
            to_coefficients = hooks.accumulated(
                to_coefficients, votes.moments(to_scores)
            )
            to_moments, pulled = _split(pulls[t - 1](*to_coefficients), votes)
            to_context = _add(to_context, pulled)
            to_weights = votes.scores(to_moments)
    return _gathered(votes, outer, to_context, context)


def _replay(hooks, votes, history, context):
    """Repeats the M-steps; returns score coefficients and functions for gradients."""
    powers, coefficients, pulls = hooks.powers, [], []
    for t in range(hooks.iterations):

        def m_step(*tensors, t=t):
            moments, context = tensors[:powers], tensors[powers:]
            found = hooks.update_parents(t, votes.center, moments, context)
            if t + 1 == hooks.iterations:
                return hooks.packed(found)
            return hooks.score_coefficients(found, votes.center, context)

        moments = history[t * powers : (t + 1) * powers]
        found, pull = vjp(m_step, *moments, *context)
        pulls.append(pull)
        if t + 1 < hooks.iterations:
            before = coefficients[-1] if coefficients else None
            coefficients.append(hooks.accumulated(before, found))
    return coefficients, pulls


def _all_scores(votes, coefficients, to_moments):
    """Computes the scores of all iterations and the gradient of the last weights.

    One pass over the votes serves for all of them.
    """
    polynomials = zip(*coefficients, to_moments, strict=True)
    polynomials = tuple(ops.stack(c, axis=2) for c in polynomials)
    *scores, to_weights = ops.unstack(votes.scores(polynomials), axis=2)
    return scores, to_weights


def _gathered(votes, outer, to_context, context):
    """Returns the gradients of the matrices, the poses and the rest of the context."""
    weights, moments = zip(*outer, strict=True)
    moments = zip(*(m[1:] for m in moments), strict=True)
    # (batch, parents, outer products, P·R)
    moments = tuple(ops.stack(m, axis=2) for m in moments)
    to_poses, to_matrices = votes.gradient(weights, moments)
    from_hooks, *others = to_context
    if from_hooks is not None:
        to_poses = at_least_float32(to_poses) + at_least_float32(from_hooks)
    return to_matrices, to_poses, *or_zeros(others, context[1:])


def _split(gradients, votes):
    """Splits gradients into those of the moments and those of the context."""
    moments = votes.initial_moments
    count = len(moments)
    return or_zeros(gradients[:count], moments), tuple(gradients[count:])


def _add(xs, ys):
    """Adds gradients; `None` is a gradient of zero."""
    return tuple(
        y if x is None else x if y is None else x + y
        for x, y in zip(xs, ys, strict=True)
    )
