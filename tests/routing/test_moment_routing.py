import gc

import keras
import numpy as np
import pytest
from helpers import close, gradients, hessian_product

from keras_capsules import routing
from keras_capsules._backend import float64
from keras_capsules.ops import ReceptiveFields

# Five images, each of two fields that have two children in common.
FIELDS = ReceptiveFields((2, 4), (2, 3), (1, 1), "valid", types=2)
ROUTINGS = {
    "dynamic while": lambda block: routing.DynamicRouting(3, block=block),
    "dynamic unroll": lambda block: routing.DynamicRouting(3, "unroll", block=block),
    "em": lambda block: routing.EMRouting(3, block=block),
    "em patch": lambda block: routing.EMRouting(3, competition="patch", block=block),
}


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    poses, kernel = rng.normal(size=(10, 12, 4, 4)), rng.normal(size=(12, 3, 4, 4))
    arrays = poses, 0.3 * kernel, rng.uniform(size=(10, 12))
    return [array.astype("float32") for array in arrays]


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="looks into TensorFlow's graph"
)
@pytest.mark.parametrize("name", ["dynamic while", "em"])
def test_no_tensor_is_as_large_as_all_votes(name, problem):
    import tensorflow as tf

    def largest(block):
        route = ROUTINGS[name](block)

        @tf.function
        def step(*arrays):
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                total = sum(
                    tf.reduce_sum(x)
                    for x in tf.nest.flatten(route(*arrays, receptive_fields=FIELDS))
                )
            return tape.gradient(total, arrays)

        graph = step.get_concrete_function(*map(tf.constant, problem)).graph
        graphs = [graph, *graph._functions.values()]
        graphs = [graph, *(f.graph for f in graphs[1:] if hasattr(f, "graph"))]
        sizes = [
            x.shape.num_elements() or 0
            for g in graphs
            for op in g.get_operations()
            for x in op.outputs
            if x.shape.is_fully_defined()
        ]
        return max(sizes)

    of_all = 10 * 12 * 3 * 16
    assert largest(5) >= of_all
    assert largest(1) < of_all / 2


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="compiles as TensorFlow does"
)
@pytest.mark.parametrize("name", ["dynamic while", "dynamic unroll", "em"])
@pytest.mark.parametrize("batch", [10, None])
def test_blocks_compile_with_xla(name, batch, problem):
    import tensorflow as tf

    def slopes(block, jit_compile):
        route = ROUTINGS[name](block)
        route.build(problem[0].shape, problem[1].shape)
        shapes = (batch, 12, 4, 4), problem[1].shape, (batch, 12)
        signature = [tf.TensorSpec(shape) for shape in shapes]

        @tf.function(input_signature=signature, jit_compile=jit_compile)
        def step(*arrays):
            with tf.GradientTape() as tape:
                tape.watch(arrays)
                parents = tf.nest.flatten(route(*arrays, receptive_fields=FIELDS))
                total = sum(tf.reduce_sum(x**2) for x in parents)
            return tape.gradient(total, arrays, unconnected_gradients="zero")

        return step(*problem)

    pairs = zip(slopes(2, True), slopes(5, False), strict=True)
    for found, expected in pairs:
        close(found, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["dynamic while", "em", "em patch"])
@pytest.mark.parametrize("padding", ["valid", "same"])
def test_initial_weights_are_those_of_equal_scores(name, padding):
    route = ROUTINGS[name](None)
    fields = ReceptiveFields((2, 4), (2, 3), (1, 1), padding, types=2)
    rows = 2 * len(fields.positions)
    activations = np.random.default_rng(0).uniform(size=(2, rows // 2, 12))
    activations = np.where(fields.padded, 0.0, activations).reshape(-1, 12)
    inputs = routing.RoutingInputs(
        keras.ops.ones((rows, 12, 4, 4)),
        keras.ops.convert_to_tensor(activations, "float32"),
        fields,
        parents=3,
    )
    found = keras.ops.convert_to_numpy(route.initial_weights(inputs))
    assert found.shape == (rows, 1, 12)
    expected = routing.MomentRouting.initial_weights(route, inputs)
    close(np.repeat(found, 3, axis=1), expected, rtol=1e-6)


def test_config_round_trip():
    for name, make in ROUTINGS.items():
        config = make(7).get_config()
        assert config["block"] == 7, name
        assert type(make(7)).from_config(config).get_config() == config


@pytest.mark.parametrize("name", ["dynamic while", "em"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_in_blocks_and_traces(name, dtype, problem):
    poses, kernel, activations = (
        keras.ops.convert_to_tensor(x, dtype) for x in problem
    )
    route = ROUTINGS[name](2)
    parents = keras.tree.flatten(
        route(poses, kernel, activations, receptive_fields=FIELDS)
    )[0]
    (exact, *_) = keras.tree.flatten(
        ROUTINGS[name](5)(*problem, receptive_fields=FIELDS)
    )
    assert keras.backend.standardize_dtype(parents.dtype) == "float32"
    close(parents, exact, rtol=0.0, atol=0.05)
    seen = route.trace(poses, kernel, activations, FIELDS)
    close(seen["parents"][-1], parents, rtol=0.0, atol=2e-3)


def test_shapes_that_do_not_fit(problem):
    poses, kernel, activations = problem
    with pytest.raises(ValueError, match="`activations` must have the shape"):
        routing.EMRouting()(poses, kernel, activations[:, :1])
    with pytest.raises(ValueError, match="`activations` must have shape"):
        routing.EMRouting()(poses, kernel, activations[..., None])
    for route in (routing.EMRouting(), routing.DynamicRouting()):
        with pytest.raises(ValueError, match="`receptive_fields`"):
            route(poses[:9], kernel, activations[:9], receptive_fields=FIELDS)
        with pytest.raises(ValueError, match="`receptive_fields`"):
            route(poses[:, :9], kernel[:9], activations[:, :9], receptive_fields=FIELDS)


@pytest.mark.parametrize("block", [0, 1.5, "all"])
def test_bad_block(block):
    with pytest.raises(ValueError, match="`block`"):
        routing.DynamicRouting(block=block)


@pytest.mark.parametrize("name", routing.names())
def test_second_derivatives_are_those_of_differences(name):
    rng = np.random.default_rng(0)
    poses, kernel = rng.normal(size=(4, 5, 2, 2)), rng.normal(size=(5, 3, 2, 2))
    activations = rng.uniform(0.2, 0.8, size=(4, 5))
    route = type(routing.get(name))(block=2, dtype="float64")
    with float64():
        route.build(poses.shape, kernel.shape)

    def total(poses, kernel):
        parents = keras.tree.flatten(route(poses, kernel, activations))
        total = sum(keras.ops.sum(keras.ops.sin(x)) for x in parents)
        return keras.ops.cast(total, "float32")  # its gradients stay in float64

    directions = rng.normal(size=poses.shape), rng.normal(size=kernel.shape)
    with float64():
        found = hessian_product(total, (poses, kernel), directions)
        ahead, behind = (
            gradients(
                total, poses + step * directions[0], kernel + step * directions[1]
            )
            for step in (1e-4, -1e-4)
        )
    for x, a, b in zip(found, ahead, behind, strict=True):
        wanted = (a - b) / 2e-4
        np.testing.assert_allclose(x, wanted, atol=1e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["dynamic while", "em"])
def test_calls_outside_of_a_program_keep_nothing(name, problem, compilations):
    route, (poses, kernel, activations) = ROUTINGS[name](1), problem
    poses, activations = poses[:4], activations[:4]

    def total(poses):
        parents = route(poses, kernel, activations, receptive_fields=FIELDS)
        return sum(map(keras.ops.sum, keras.tree.flatten(parents)))

    def call():
        gradients(total, poses)
        route.trace(poses, kernel, activations, FIELDS)

    for _ in range(2):
        call()
    compiled = compilations()
    gc.collect()
    gc.freeze()  # what is there already is not counted
    try:
        for _ in range(3):
            call()
        gc.collect()
        assert compilations() == compiled
        assert len(gc.get_objects()) < 200
    finally:
        gc.unfreeze()
