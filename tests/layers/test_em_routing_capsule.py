import keras
import numpy as np
import pytest
from helpers import close, finite, golden

from keras_capsules import layers, routing


def children(shape=(2, 3, 4, 5), pose=(4, 4)):
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(*shape, *pose)).astype("float32")
    return poses, rng.random(shape).astype("float32")


@pytest.mark.parametrize("coordinates", [True, False])
def test_golden(coordinates):
    case = golden(f"class_em_{'with' if coordinates else 'without'}_coordinates")
    route = routing.EMRouting(
        int(case["iterations"]),
        float(case["inverse_temperature"]),
        float(case["min_variance"]),
        cost="paper",
        agreement="product",
    )
    layer = layers.EMRoutingCapsule(case["kernel"].shape[1], None, coordinates, route)
    layer.build((case["poses"].shape, case["child_activations"].shape))
    layer.kernel.assign(case["kernel"])
    route.beta_u.assign(case["beta_u"])
    route.beta_a.assign(case["beta_a"])
    poses, activations = layer(
        [case[n].astype("float32") for n in ("poses", "child_activations")]
    )
    close(poses, case["parent_poses"], atol=1e-5)
    close(activations, case["parent_activations"])


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (4, 3), (7, 7)])
def test_grids_of_any_size_share_one_kernel(size):
    layer = layers.EMRoutingCapsule(3)
    layer(children())
    poses, activations = layer(children((2, *size, 5)))
    assert tuple(layer.kernel.shape) == (5, 3, 4, 4)
    shapes = tuple(poses.shape), tuple(activations.shape)
    assert shapes == ((2, 3, 4, 4), (2, 3))
    assert shapes == layer.compute_output_shape(((2, *size, 5, 4, 4), (2, *size, 5)))
    assert finite(poses, activations)


def test_without_coordinates_places_do_not_matter():
    poses, activations = children()
    moved = poses[:, ::-1].copy(), activations[:, ::-1].copy()
    for coordinates in (True, False):
        layer = layers.EMRoutingCapsule(3, coordinate_addition=coordinates)
        outputs = (layer((poses, activations))[0], layer(moved)[0])
        change = float(keras.ops.max(keras.ops.abs(outputs[0] - outputs[1])))
        assert (change > 1e-3) == coordinates


def test_vector_capsules():
    poses, _ = children(pose=(8,))
    layer = layers.EMRoutingCapsule(3, coordinate_addition=False, pose_shape=6)
    parents, activations = layer(poses / 10.0)
    assert tuple(parents.shape) == (2, 3, 6) and tuple(activations.shape) == (2, 3)
    dynamic = layers.EMRoutingCapsule(3, coordinate_addition=False, routing="dynamic")
    assert tuple(dynamic(poses / 10.0).shape) == (2, 3, 8)
    with pytest.raises(ValueError, match="coordinate_addition"):
        layers.EMRoutingCapsule(3)(poses)


def test_half_precision():
    outputs = layers.EMRoutingCapsule(3, dtype="mixed_float16")(children())
    assert {keras.backend.standardize_dtype(x.dtype) for x in outputs} == {"float16"}
    assert finite(*outputs)


def test_coordinate_addition_is_a_flag():
    with pytest.raises(ValueError, match="coordinate_addition"):
        layers.EMRoutingCapsule(3, coordinate_addition="dynamic")


def test_unknown_size():
    with pytest.raises(ValueError, match="every size known"):
        layers.EMRoutingCapsule(3).build(((2, None, 4, 5, 4, 4), (2, None, 4, 5)))
