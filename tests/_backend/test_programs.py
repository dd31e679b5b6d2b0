"""Routing as JAX compiles it, and as PyTorch does for a GPU, traced on a processor."""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from helpers import close, gradients

if keras.backend.backend() == "tensorflow":
    pytest.skip("TensorFlow has graphs for that", allow_module_level=True)

from keras_capsules import layers, routing
from keras_capsules._backend import fused, programs
from keras_capsules.routing import _engine

BACKEND = keras.backend.backend()


@pytest.fixture
def traced(monkeypatch):
    """What was compiled, in a list; PyTorch only traces it."""
    found, keep = [], programs._keep

    def counting(*arguments):
        found.append(arguments)
        keep(*arguments)

    monkeypatch.setattr(programs, "_keep", counting)
    if BACKEND == "torch":
        monkeypatch.setattr(fused, "compiles", lambda: True)
        monkeypatch.setattr(_engine, "fused_sums", lambda dtype: None)
        monkeypatch.setattr(programs, "COMPILER", "eager")
    return found


only_torch = pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch alone")


@pytest.mark.parametrize("name", ["dynamic", "em"])
def test_outputs_and_gradients(name, monkeypatch, traced):
    layer = layers.ConvCapsule(3, kernel_size=2, routing=name)
    poses = np.random.default_rng(0).normal(size=(2, 3, 3, 2, 4, 4)).astype("float32")
    activations = keras.ops.full(poses.shape[:4], 0.5)
    layer.build([poses.shape, activations.shape])

    def outputs(poses):
        found = keras.tree.flatten(layer((poses, activations)))
        return keras.ops.concatenate([keras.ops.reshape(x, (-1,)) for x in found])

    for _ in range(2):
        values = keras.ops.convert_to_numpy(outputs(keras.ops.convert_to_tensor(poses)))
        (found,) = gradients(outputs, poses, weights=np.ones(values.shape))
    assert len(traced) == 2  # a forward pass and a backward pass
    monkeypatch.setattr(_engine, "compiled", lambda function, *_: function)
    close(outputs(keras.ops.convert_to_tensor(poses)), values)
    (expected,) = gradients(outputs, poses, weights=np.ones(values.shape))
    close(found, expected)


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX alone")
def test_what_is_differentiated_of_arrays_of_numpy(traced):
    import jax

    route, rng = routing.EMRouting(2), np.random.default_rng(0)
    poses, kernel = rng.normal(size=(2, 4, 4, 4)), rng.normal(size=(4, 3, 4, 4))
    poses, kernel = poses.astype("float32"), kernel.astype("float32")
    activations = np.full((2, 4), 0.5, "float32")

    def total(poses):
        return route(poses, kernel, activations)[1].sum()

    found = jax.grad(total)(poses)
    assert traced
    close(found, np.asarray(jax.jit(jax.grad(total))(poses)), atol=1e-5)


def test_a_setting_that_changes_is_seen(traced):
    layer = layers.DigitCapsule(3, 5, routing=routing.EMRouting())
    inputs = keras.random.normal((2, 6, 4)), keras.ops.ones((2, 6))
    before = keras.tree.map_structure(keras.ops.copy, layer(inputs))
    layer.routing.iterations = 1
    after = layer(inputs)
    assert len(traced) == 2
    before, after = (keras.ops.convert_to_numpy(x[0]) for x in (before, after))
    assert np.abs(after - before).max() > 1e-4


@only_torch
def test_other_strides_are_another_program(traced):
    layer, x = layers.DigitCapsule(3, 5), keras.random.normal((2, 4, 6))
    x = keras.ops.transpose(x, (0, 2, 1))
    found = layer(x), layer(x.contiguous())
    close(found[0], keras.ops.convert_to_numpy(found[1]))
    assert len(traced) == 2


def test_calls_from_several_threads(traced):
    layer, x = layers.DigitCapsule(3, 5), keras.random.normal((2, 6, 4))
    layer.build(x.shape)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(layer, [x] * 8))
    # JAX doesn't wait for a thread that compiles the same.
    assert len(traced) == 1 or BACKEND == "jax"
    for y in found:
        close(y, keras.ops.convert_to_numpy(found[0]))


def test_a_weight_of_integers_keeps_a_routing_from_being_compiled(traced):
    class Counting(routing.DynamicRouting):
        def build(self, poses_shape, kernel_shape):
            self.steps = self.add_weight(
                dtype="int32", initializer="ones", trainable=False
            )
            super().build(poses_shape, kernel_shape)

        def update_parents(self, moments, iteration, inputs):
            steps = keras.ops.cast(self.steps, "float32")
            return {"parents": moments.sum * steps}

    layer, x = layers.DigitCapsule(3, 5, routing=Counting()), keras.ops.ones((2, 6, 4))
    before = keras.ops.convert_to_numpy(layer(x))
    layer.routing.steps.assign(2)
    assert not np.allclose(before, keras.ops.convert_to_numpy(layer(x)))
    assert not traced


@pytest.mark.skipif(BACKEND != "jax", reason="PyTorch compiles them too")
def test_hooks_of_users_run_as_they_stand(traced):
    class Scaled(routing.DynamicRouting):
        scale = np.ones(1, "float32")

        def update_parents(self, moments, iteration, inputs):
            self.last = moments.sum
            return {"parents": self.last * self.scale[0]}

    layer, x = layers.DigitCapsule(3, 5, routing=Scaled()), keras.ops.ones((2, 6, 4))
    before = keras.ops.convert_to_numpy(layer(x))
    layer.routing.scale[0] = 2.0
    close(layer(x), 2.0 * keras.ops.convert_to_numpy(layer.routing.last))
    assert not np.allclose(before, keras.ops.convert_to_numpy(layer(x)))
    assert not traced


def test_programs_go_with_their_owner(traced):
    layer = layers.DigitCapsule(3, 5)
    layer(keras.ops.ones((2, 6, 4)))
    alive = weakref.ref(layer.routing)
    del layer
    gc.collect()
    assert len(traced) == 1 and alive() is None


def test_the_latest_programs_are_kept(monkeypatch, traced):
    monkeypatch.setattr(programs, "PROGRAMS", 2)
    layer = layers.DigitCapsule(3, 5)
    for size in (1, 2, 3, 3, 1):
        layer(keras.ops.ones((size, 6, 4)))
    assert len(traced) == 4


def test_a_batch_of_another_size_is_another_program(traced):
    layer = layers.DigitCapsule(3, 5)
    shapes = [layer(keras.ops.ones((size, 6, 4))).shape for size in (2, 3, 2)]
    assert shapes == [(2, 3, 5), (3, 3, 5), (2, 3, 5)]
    assert len(traced) == 2


@only_torch
def test_constants_are_computed_once(monkeypatch):
    kept = []

    def compiler(program, _):
        kept.append(program)
        return program.forward

    monkeypatch.setattr(fused, "compiles", lambda: True)
    monkeypatch.setattr(programs, "COMPILER", compiler)

    def function(x):
        return x + keras.ops.exp(keras.ops.convert_to_tensor(np.arange(3.0)))

    call = programs.compiled(function, keras.layers.Identity(), "exp", tuple)
    close(call(keras.ops.zeros((3,))), np.exp(np.arange(3.0)))
    (program,) = kept
    targets = [str(node.target) for node in program.graph.nodes]
    assert not any("exp" in target for target in targets)


@only_torch
def test_what_changes_in_place_is_no_constant(monkeypatch):
    monkeypatch.setattr(fused, "compiles", lambda: True)
    monkeypatch.setattr(programs, "COMPILER", "eager")

    def function(index):
        zeros = keras.ops.convert_to_tensor(np.zeros(4, "float32"))
        return keras.ops.scatter_update(zeros, index, keras.ops.ones((1,)))

    call = programs.compiled(function, keras.layers.Identity(), "scatter", tuple)
    for i in range(3):
        found = call(keras.ops.convert_to_tensor([[i]], "int32"))
        close(found, np.eye(4)[i])


@only_torch
def test_a_program_of_the_user_leaves_a_routing_out():
    import torch

    of_dynamic, kernel = routing.DynamicRouting(), keras.random.normal((6, 3, 4, 5))
    x = keras.random.normal((2, 6, 1, 4)).requires_grad_()

    def function(x):
        # Not through `Layer.__call__`, which takes long to compile.
        return torch.sin(of_dynamic.call(2.0 * x, kernel)).sum()

    torch._dynamo.utils.counters.clear()
    found = []
    for f in (function, torch.compile(function, backend="eager")):
        found += torch.autograd.grad(f(x), x)
    close(found[1], found[0].cpu().numpy())
    breaks = torch._dynamo.utils.counters["graph_break"]
    assert breaks and not any("ContextVar" in reason for reason in breaks)
