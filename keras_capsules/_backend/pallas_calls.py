"""Calls of Pallas kernels on a GPU with JAX; letters name the axes of arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

INTERPRET = False  # True interprets kernels on a CPU, for tests


def float32(x: Any) -> Any:
    return x.astype(jnp.float32)


def fma(x: Any, y: Any, z: Any) -> Any:
    """Computes `x · y + z` in one instruction; XLA does not combine the two."""
    if INTERPRET:
        return x * y + z
    x, y, z = jnp.broadcast_arrays(x, y, z)
    (found,) = triton.elementwise_inline_asm(
        "fma.rn.f32 $0, $1, $2, $3;",
        args=(x, y, z),
        constraints="=f,f,f,f",
        pack=1,
        result_shape_dtypes=[jax.ShapeDtypeStruct(x.shape, jnp.float32)],
    )
    return found


def loop(times: int, step: Callable, sums: list) -> list:
    """Returns the sums after all steps; each step yields the updated sums."""
    return jax.lax.fori_loop(0, times, lambda i, sums: list(step(i, sums)), sums)


def call(
    kernel: Callable,
    grid: str,
    blocks: dict,
    inputs: dict,
    output: str,
    warps: int,
    least: dict,
    stages: int | None = None,
    **sizes: int,
) -> Any:
    """Calls a kernel and passes each program its blocks of the arrays.

    Axes are padded with zeros to whole blocks or to powers of 2. The zeros do not
    change any sum.

    Args:
        kernel: function of the references of each input, a reference or several, and of
            the reference of the output.
        grid: the axes along which there are several programs.
        blocks: for an axis of the grid, its size in the block of a program; `None` for
            size 1, without an axis. For another axis, its size is padded to a multiple
            of this number.
        inputs: an array, or a tuple of arrays, for each form "given->wanted", which
            names the axes of the array and those of the kernel's input.
        output: the form of the output. Its axis `c` is that of the programs along the
            children.
        warps: number of warps that share the tile of a program.
        least: for each axis that is padded to a power of 2, its smallest size.
        stages: number of steps of a loop that are loaded at a time; by default XLA
            chooses.
        **sizes: sizes of axes that no input has.

    Returns:
        The output, float32.
    """
    for form, tensors in inputs.items():
        for x in tensors if isinstance(tensors, tuple) else (tensors,):
            sizes.update(zip(form, x.shape, strict=False))
    powers = {a: max(pl.next_power_of_2(sizes[a]), least[a]) for a in least}
    whole = {**sizes, **powers}
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
        compiler_params=triton.CompilerParams(num_warps=warps, num_stages=stages),
        interpret=INTERPRET,
    )(*(arranged(form, x) for form, x in inputs.items()))
    found = found[tuple(slice(sizes[a]) for a in axes)]
    return jnp.transpose(found, [axes.index(a) for a in wanted])
