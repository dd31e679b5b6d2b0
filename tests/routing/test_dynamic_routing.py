import keras
import numpy as np
import pytest
import reference
from helpers import close, finite, golden, gradients, slope

from keras_capsules import routing

LOOPS = ("while", "unroll")


def as_matrices(poses):
    """Vector poses (batch, children, D) as 1 × D matrices, in float32."""
    return poses[:, :, None].astype("float32")


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2, 7, 4)), rng.normal(size=(7, 3, 4, 5))


@pytest.mark.parametrize("iterations", [1, 2, 3, 5])
@pytest.mark.parametrize("loop", LOOPS)
def test_golden(loop, iterations):
    case = golden(f"dynamic_routing_{iterations}")
    poses, kernel = as_matrices(case["poses"]), case["kernel"].astype("float32")
    route = routing.DynamicRouting(iterations, loop)
    close(route(poses, kernel)[:, :, 0], case["parents"])
    trace = route.trace(poses, kernel)
    close(np.swapaxes(trace["weights"][-1], 1, 2), case["couplings"])
    close(trace["parents"][-1, :, :, 0], case["parents"])


def test_reference_matches_golden():
    case = golden("dynamic_routing_3")
    parents, couplings = reference.dynamic_routing(case["poses"], case["kernel"], 3)
    close(parents, case["parents"])
    close(couplings, case["couplings"])


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("loop", LOOPS)
def test_gradient_matches_finite_differences(loop, iterations, case):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(2, 3, 5))
    directions = [rng.normal(size=array.shape) for array in case]
    route = routing.DynamicRouting(iterations, loop)
    found = gradients(
        lambda poses, kernel: route(poses[:, :, None], kernel)[:, :, 0],
        *(array.astype("float32") for array in case),
        weights=weights,
    )
    expected = slope(
        lambda *arrays: reference.dynamic_routing(*arrays, iterations)[0] * weights,
        case,
        directions,
    )
    actual = sum(np.sum(g * d) for g, d in zip(found, directions, strict=True))
    assert actual == pytest.approx(expected, rel=1e-3)


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="JAX always compiles, torch never"
)
def test_xla_differentiates_the_while_loop(case):
    import tensorflow as tf

    poses, kernel = (tf.constant(array, tf.float32) for array in case)
    route = routing.DynamicRouting(3, "while")

    @tf.function(jit_compile=True)
    def compiled(poses, kernel):
        with tf.GradientTape() as tape:
            tape.watch(poses)
            total = tf.reduce_sum(route(poses[:, :, None], kernel))
        return tape.gradient(total, poses)

    (expected,) = gradients(lambda x: route(x[:, :, None], kernel), poses)
    close(compiled(poses, kernel), expected, rtol=1e-3)


@pytest.mark.parametrize("loop", LOOPS)
def test_stop_gradient_takes_couplings_as_constants(loop, case):
    rng = np.random.default_rng(1)
    directions = [rng.normal(size=array.shape) for array in case]
    _, couplings = reference.dynamic_routing(*case, 3)

    def parents(poses, kernel):
        votes = np.einsum("nid,ijdr->nijr", poses, kernel)
        return reference.squash(np.einsum("nij,nijr->njr", couplings, votes))

    route = routing.DynamicRouting(3, loop, stop_gradient=True)
    found = gradients(
        lambda poses, kernel: route(poses[:, :, None], kernel),
        *(array.astype("float32") for array in case),
    )
    actual = sum(np.sum(g * d) for g, d in zip(found, directions, strict=True))
    assert actual == pytest.approx(slope(parents, case, directions), rel=1e-3)


def test_matrix_poses_are_routed_as_flat_vectors():
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(2, 6, 4, 4)).astype("float32")
    kernel = rng.normal(size=(6, 3, 4, 4)).astype("float32")
    parents = routing.DynamicRouting()(poses, kernel)
    # P · Q matrices as one kernel on the flattened pose: I ⊗ kernel.
    flat_kernel = np.einsum("pr,ijqs->ijpqrs", np.eye(4), kernel).reshape(6, 3, 16, 16)
    expected, _ = reference.dynamic_routing(poses.reshape(2, 6, 16), flat_kernel, 3)
    close(parents, expected.reshape(2, 3, 4, 4), atol=1e-5)


def test_couplings_sum_to_one_and_sharpen(case):
    trace = routing.DynamicRouting(3).trace(
        as_matrices(case[0]), case[1].astype("float32")
    )
    couplings = keras.ops.convert_to_numpy(trace["weights"])
    assert couplings.shape == (3, 2, 3, 7)
    np.testing.assert_allclose(couplings.sum(2), 1.0, rtol=1e-5)
    np.testing.assert_allclose(couplings[0], 1 / 3, rtol=1e-5)
    assert couplings[2].max(2).mean() > couplings[1].max(2).mean()


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("loop", LOOPS)
def test_never_nan(loop, dtype, scale, case):
    def call(poses, kernel):
        poses = keras.ops.cast(poses[:, :, None], dtype)
        return routing.DynamicRouting(5, loop)(poses, keras.ops.cast(kernel, dtype))

    poses = np.clip(case[0] * scale, -6e4, 6e4).astype("float32")
    kernel = (0.1 * case[1]).astype("float32")
    parents = call(poses, kernel)
    assert keras.backend.standardize_dtype(parents.dtype) == "float32"
    assert finite(parents, *gradients(call, poses, kernel))


def test_low_precision_is_close_to_float32(case):
    arrays = as_matrices(case[0]), case[1].astype("float32")
    low = routing.DynamicRouting()(*(keras.ops.cast(x, "bfloat16") for x in arrays))
    expected, _ = reference.dynamic_routing(*case, 3)
    close(low[:, :, 0], expected, rtol=0, atol=0.03)


def test_output_shape():
    route = routing.DynamicRouting()
    shape = route.compute_output_shape((None, 6, 1, 8), (6, 10, 8, 16))
    assert shape == (None, 10, 1, 16)


def test_config_round_trip():
    config = routing.DynamicRouting(2, "unroll", True, 3).get_config()
    assert routing.DynamicRouting.from_config(config).get_config() == config


def test_bad_arguments():
    with pytest.raises(ValueError, match="`iterations`"):
        routing.DynamicRouting(iterations=0)
    with pytest.raises(ValueError, match="`loop`"):
        routing.DynamicRouting(loop="for")
    with pytest.raises(ValueError, match="`stop_gradient`"):
        routing.DynamicRouting(stop_gradient="no")


def test_shapes_that_do_not_fit():
    poses = np.zeros((2, 6, 1, 8), "float32")
    for kernel in [(5, 3, 8, 4), (6, 3, 7, 4)]:
        with pytest.raises(ValueError, match="must agree in children and in Q"):
            routing.DynamicRouting()(poses, np.zeros(kernel, "float32"))
        route = routing.DynamicRouting()
        route(poses, np.zeros((6, 3, 8, 4), "float32"))
        with pytest.raises(ValueError, match="must agree in children and in Q"):
            route(poses, np.zeros(kernel, "float32"))
        with pytest.raises(ValueError, match="must agree in children and in Q"):
            route.trace(poses, np.zeros(kernel, "float32"))
    with pytest.raises(ValueError, match="`poses` must have shape"):
        routing.DynamicRouting()(poses[:, :, 0], np.zeros((6, 3, 8, 4), "float32"))
