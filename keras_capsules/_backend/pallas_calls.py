"""Calls of kernels for a GPU with JAX, which name the axes of arrays by letters."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton

INTERPRET = False  # on a processor, for tests


def float32(x: Any) -> Any:
    return x.astype(jnp.float32)


def fma(x: Any, y: Any, z: Any) -> Any:
    """`x · y + z` in one instruction, which XLA does not make of the two."""
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
    """Sums after all steps, each of which yields them anew."""
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
    """Calls a kernel with the blocks of its arrays that belong to a program.

    Axes are filled up to whole blocks, or to powers of 2, with zeros, which add nothing
    to any sum.

    Args:
        kernel: function of a reference or a list of them for each input, and of one
            for the output.
        grid: the axes along which there are several programs.
        blocks: how much of an axis of the grid a program has, `None` for one without
            an axis; of another axis the number that its size is made a multiple of.
        inputs: an array, or a tuple of arrays, for each form "given->wanted".
        output: the form of the output. In it `c` are the programs along the children.
        warps: how many warps share the tile of a program.
        least: the axes whose size is a power of 2, and the least it may be.
        stages: how many steps of a loop are loaded at a time; by default XLA chooses.
        **sizes: of axes that no input has.

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
