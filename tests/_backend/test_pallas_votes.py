import keras
import numpy as np
import pytest
import sums_over_votes

if keras.backend.backend() != "jax":
    pytest.skip("kernels for JAX", allow_module_level=True)

import jax
import jax.numpy as jnp

from keras_capsules._backend import pallas_calls, pallas_votes, tiles

# Since 0.11 JAX asks which GPU kernels are for.
H100 = jax.sharding.AbstractDevice("NVIDIA H100 80GB HBM3", None, "cuda")
MESH = jax.sharding.AbstractMesh((), (), abstract_device=H100)


@pytest.mark.parametrize("case", sums_over_votes.CASES)
def test_sums_over_votes(case, monkeypatch):
    monkeypatch.setattr(pallas_calls, "INTERPRET", jax.default_backend() == "cpu")
    if case == sums_over_votes.CASES[0]:
        monkeypatch.setattr(tiles, "WARPS", 1)  # a program for all children
    sums_over_votes.check(
        pallas_votes, lambda x: jnp.asarray(x, "float32"), np.asarray, case
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("case", sums_over_votes.CASES)
def test_they_are_lowered_for_a_gpu(case, dtype):
    images, children, parents, p, q, r, t, squares = case

    def of(*shape, dtype="float32"):
        return jax.ShapeDtypeStruct(shape, dtype)

    poses = of(images, children, p, q, dtype=dtype)
    matrices = of(children, q, parents, r, dtype=dtype)
    center = (of(images, parents, p, r),) * squares
    each = (of(images, parents, t, p, r),) * (1 + squares)
    sums = {
        "scores": (each,),
        "moments": (of(images, parents, children),),
        "gradient": ((of(images, parents, children),) * t, each),
    }
    for name, arguments in sums.items():
        function = getattr(pallas_votes, name)
        if name == "moments":
            function = jax.jit(function, static_argnums=4)
            arguments = (*arguments, 1 + squares)
        traced = jax.jit(function).trace if name != "moments" else function.trace
        with jax.sharding.use_abstract_mesh(MESH):
            lowered = traced(poses, matrices, center, *arguments).lower(
                lowering_platforms=("cuda",)
            )
        assert "triton" in lowered.as_text()
