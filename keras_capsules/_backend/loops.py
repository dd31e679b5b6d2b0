"""Loops for each backend."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import keras
from keras import ops

_unrolled = ContextVar("unrolled", default=False)


@contextmanager
def unrolled() -> Iterator[None]:
    """A context in which loops are unrolled and all rows are one block.

    It is for converters whose target has no loops over tensors. The results are the
    same, but the memory for the whole batch is needed at once.

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

    The loop can be differentiated. On TensorFlow it is a `tf.while_loop`, which XLA can
    differentiate because its number of iterations is bounded. On JAX it is a
    `fori_loop`, which has a gradient because its trip count is static. Outside of
    `jit`, JAX would compile the loop at every call and keep all compiled loops. There
    the step is repeated in Python.

    Args:
        step: function that takes a state and returns the next, of the same shapes and
            dtypes.
        state: tensor, or a tuple of tensors.
        times: number of iterations, an integer.

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
    """Applies a function to blocks of rows, one block at a time.

    All blocks have the same size. The last block is padded: with zeros in the first
    tensor, with copies of a row in the others. Sums must be linear in the first tensor.
    The memory of a block is free again before the next block begins.

    Args:
        function: function of a tuple, the rows of a block. It returns two tuples: the
            tensors to sum over the blocks, and output rows.
        rows: tuple of tensors whose first axis is split into blocks.
        size: largest number of groups of rows in a block.
        totals: tensors with the shapes and dtypes of the sums.
        dtypes: dtypes of the output rows.
        together: number of rows in a group, which is never split.

    Returns:
        The sums over the blocks, and the output rows of all blocks.

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
    # Only positive numbers: ONNX does not round quotients of negative numbers down.
    blocks = (count + size - 1) // size
    if isinstance(blocks, int):
        if blocks <= 1:
            return function(rows)
    else:
        blocks = ops.maximum(blocks, 1)
    size = (count + blocks - 1) // blocks * together
    count = count * together
    rows = tuple(
        _cut(x, blocks, size, count, copies=index > 0) for index, x in enumerate(rows)
    )
    if _jax_runs_at_once():
        scan = _scan_at_once
    else:
        scan = _scan_tensorflow if keras.backend.backend() == "tensorflow" else _scan
    totals, outputs = scan(function, rows, blocks, totals, dtypes)
    outputs = (ops.reshape(y, (-1, *ops.shape(y)[2:])) for y in outputs)
    return totals, tuple(y[:count] for y in outputs)


def _cut(x, blocks, size, count, copies):
    """Pads (count, …) with copies or zeros and reshapes it to (blocks, size, …)."""
    missing = blocks * size - count
    if not isinstance(missing, int) or missing:
        row = x[:1] if copies else ops.zeros_like(x[:1])
        padding = ops.broadcast_to(row, (missing, *ops.shape(x)[1:]))
        x = ops.concatenate([x, padding])
    return ops.reshape(x, (blocks, size, *ops.shape(x)[1:]))


def _jax_runs_at_once():
    """Whether JAX executes operations immediately instead of tracing them."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    # Within `jit` every result is a tracer. Within `grad` or `vmap` alone, constants
    # are no tracers.
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
        # Parallel blocks would keep their votes in memory at the same time.
        parallel_iterations=1,
    )
    return totals, tuple(y.stack() for y in outputs)
