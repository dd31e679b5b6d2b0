"""Routing as PyTorch compiles it for a GPU, traced on a processor."""

import keras
import numpy as np
import pytest
from helpers import close, gradients

if keras.backend.backend() != "torch":
    pytest.skip("only PyTorch runs operation by operation", allow_module_level=True)

from keras_capsules import layers, routing
from keras_capsules._backend import fused, programs
from keras_capsules.routing import _engine


@pytest.fixture
def traced(monkeypatch):
    """Functions are traced; what was traced is counted, and runs as it is."""
    found = []
    compile_ = programs._compile

    def counting(*arguments):
        found.append(compile_(*arguments))
        return found[-1]

    monkeypatch.setattr(fused, "compiles", lambda: True)
    monkeypatch.setattr(_engine, "fused_sums", lambda dtype: None)
    monkeypatch.setattr(programs, "COMPILER", "eager")
    monkeypatch.setattr(programs, "_compile", counting)
    return found


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
    monkeypatch.setattr(fused, "compiles", lambda: False)
    close(outputs(keras.ops.convert_to_tensor(poses)), values)
    (expected,) = gradients(outputs, poses, weights=np.ones(values.shape))
    close(found, expected)


def test_a_setting_that_changes_is_seen(traced):
    layer = layers.DigitCapsule(3, 5, routing=routing.EMRouting())
    inputs = keras.random.normal((2, 6, 4)), keras.ops.ones((2, 6))
    before = keras.tree.map_structure(keras.ops.copy, layer(inputs))
    layer.routing.iterations = 1
    after = layer(inputs)
    assert len(traced) == 2
    before, after = (keras.ops.convert_to_numpy(x[0]) for x in (before, after))
    assert np.abs(after - before).max() > 1e-4


def test_a_batch_of_another_size_is_another_program(traced):
    layer = layers.DigitCapsule(3, 5)
    shapes = [layer(keras.ops.ones((size, 6, 4))).shape for size in (2, 3, 2)]
    assert shapes == [(2, 3, 5), (3, 3, 5), (2, 3, 5)]
    assert len(traced) == 2


def test_constants_are_computed_once(monkeypatch):
    kept = []
    monkeypatch.setattr(fused, "compiles", lambda: True)
    monkeypatch.setattr(programs, "COMPILER", lambda program, _: kept.append(program))

    def function(x):
        return x + keras.ops.exp(keras.ops.convert_to_tensor(np.arange(3.0)))

    call = programs.compiled(function, keras.layers.Identity(), "exp", tuple)
    with pytest.raises(Exception):  # noqa: B017 the compiler above makes nothing
        call(keras.ops.zeros((3,)))
    (program,) = kept
    targets = [str(node.target) for node in program.graph.nodes]
    assert not any("exp" in target for target in targets)


def test_a_program_of_the_user_leaves_a_routing_out():
    import torch

    layer = layers.DigitCapsule(3, 5)
    x = torch.rand(2, 6, 4, requires_grad=True, device=keras.ops.ones(()).device)
    layer.build(x.shape)

    def function(x):
        return torch.sin(layer(2.0 * x)).sum()

    torch._dynamo.utils.counters.clear()
    found = []
    for f in (function, torch.compile(function, backend="eager")):
        found += torch.autograd.grad(f(x), x)
    close(found[1], found[0].cpu().numpy())
    breaks = torch._dynamo.utils.counters["graph_break"]
    assert breaks and not any("ContextVar" in reason for reason in breaks)
