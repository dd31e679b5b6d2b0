"""Loops on each backend."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

_unrolled = ContextVar("unrolled", default=False)


@contextmanager
def unrolled() -> Iterator[None]:
    """Within it no graph gets a loop: all are unrolled, and all rows are one block.

    For converters whose target has no loops over tensors. The values are the same;
    it takes as much memory as the whole batch does.

    Example:

    >>> import keras
    >>> with unrolled():
    ...     x = fixed_loop(lambda x: 2.0 * x, keras.ops.ones(()), times=3)
    >>> float(x)
    8.0
    """
    before = _unrolled.set(True)
    try:
        yield
    finally:
        _unrolled.reset(before)


def fixed_loop(step: Callable, state: Any, times: int) -> Any:
    """Applies `step` to `state` several times, as one loop in the graph.

    Gradients flow through every pass. On TensorFlow it is one `tf.while_loop`,
    which XLA can differentiate because its number of iterations is bounded; on
    JAX it is a `fori_loop`, the only one of its loops with a static trip count
    and therefore with a gradient. JAX outside of `jit` repeats the step in Python:
    it would compile the loop anew at every call and keep what it has compiled.

    Args:
        step: function from a state to the next, of the same shapes and dtypes.
        state: tensor, or a tuple of tensors.
        times: how often, an integer.

    Returns:
        The last state.

    Example:

    >>> import keras
    >>> float(fixed_loop(lambda x: 2.0 * x, keras.ops.ones(()), times=3))
    8.0
    """
    if _unrolled.get() or _jax_runs_at_once():
        for _ in range(times):
            state = step(state)
        return state
    if keras.backend.backend() == "jax":
        return ops.fori_loop(0, times, lambda _, state: step(state), state)
    _, state = ops.while_loop(
        lambda index, _: index < times,
        lambda index, state: (index + 1, step(state)),
        (0, state),
        maximum_iterations=times,
    )
    return state


def over_blocks(
    function: Callable,
    rows: tuple,
    size: int,
    totals: tuple,
    dtypes: tuple,
    together: int = 1,
) -> tuple[tuple, tuple]:
    """Applies a function to one block of rows after the other.

    The blocks are of one size, near the one that is asked for; zeros fill up the
    last of them. What a block needs is free again before the next one begins.

    Args:
        function: function of the rows of a block, a tuple. It returns two tuples:
            what is summed over the blocks, and rows of its own.
        rows: tensors whose first axis is cut into blocks.
        size: how many groups of rows a block has at most.
        totals: tensors of the shapes and dtypes of what is summed.
        dtypes: the dtypes of the rows that the function returns.
        together: how many rows make a group, which is never cut.

    Returns:
        The sums over the blocks, and the rows the function returned for all.

    Example:

    >>> import keras
    >>> x, zero = keras.ops.arange(5.0), keras.ops.zeros(())
    >>> function = lambda rows: ((keras.ops.sum(rows[0]),), (2.0 * rows[0],))
    >>> (total,), (double,) = over_blocks(function, (x,), 2, (zero,), ("float32",))
    >>> float(total), [int(y) for y in double]
    (10.0, [0, 2, 4, 6, 8])
    """
    if _unrolled.get():
        return function(rows)
    count = ops.shape(rows[0])[0] // together
    # Of what is positive: ONNX doesn't round the quotients of negative numbers down.
    blocks = (count + size - 1) // size
    if isinstance(blocks, int):
        if blocks <= 1:
            return function(rows)
    else:
        blocks = ops.maximum(blocks, 1)
    size = (count + blocks - 1) // blocks * together
    count = count * together
    rows = tuple(_cut(x, blocks, size, count) for x in rows)
    if _jax_runs_at_once():
        scan = _scan_at_once
    else:
        scan = _scan_tensorflow if keras.backend.backend() == "tensorflow" else _scan
    totals, outputs = scan(function, rows, blocks, totals, dtypes)
    outputs = (ops.reshape(y, (-1, *ops.shape(y)[2:])) for y in outputs)
    return totals, tuple(y[:count] for y in outputs)


def _cut(x, blocks, size, count):
    """(count, …) as (blocks, size, …), filled up with zeros."""
    missing = blocks * size - count
    if not isinstance(missing, int) or missing:
        x = ops.concatenate([x, ops.zeros((missing, *ops.shape(x)[1:]), x.dtype)])
    return ops.reshape(x, (blocks, size, *ops.shape(x)[1:]))


def _jax_runs_at_once():
    """Whether JAX computes what it is told right away, and writes no program."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    # Within `jit` all that is computed is a tracer, of `grad` or `vmap` a constant is
    # none.
    return not isinstance(ops.zeros(()), jax.core.Tracer)


def _scan_at_once(function, rows, blocks, totals, dtypes):
    totals, outputs = tuple(map(ops.zeros_like, totals)), []
    for index in range(blocks):
        summands, values = function(tuple(x[index] for x in rows))
        totals = tuple(a + b for a, b in zip(totals, summands, strict=True))
        outputs.append(values)
    return totals, tuple(map(ops.stack, zip(*outputs, strict=True)))


def _scan(function, rows, blocks, totals, dtypes):
    def step(totals, rows):
        summands, outputs = function(rows)
        return tuple(a + b for a, b in zip(totals, summands, strict=True)), outputs

    return ops.scan(step, tuple(map(ops.zeros_like, totals)), rows)


def _scan_tensorflow(function, rows, blocks, totals, dtypes):
    import tensorflow as tf

    def step(index, totals, outputs):
        summands, values = function(tuple(x[index] for x in rows))
        totals = tuple(a + b for a, b in zip(totals, summands, strict=True))
        written = zip(outputs, values, strict=True)
        return index + 1, totals, tuple(y.write(index, value) for y, value in written)

    _, totals, outputs = tf.while_loop(
        lambda index, *_: index < blocks,
        step,
        (
            0,
            tuple(map(tf.zeros_like, totals)),
            tuple(tf.TensorArray(dtype, blocks) for dtype in dtypes),
        ),
        # Blocks that ran at the same time would hold their votes at the same time.
        parallel_iterations=1,
    )
    return totals, tuple(y.stack() for y in outputs)
