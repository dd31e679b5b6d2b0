import keras
import numpy as np
import pytest
from helpers import close, finite, golden

from keras_capsules import layers, routing

GOLDEN = [
    f"conv_em_{geometry}_{competition}"
    for geometry in ("3x3s2", "2x3s1x2", "3x2s1")
    for competition in ("image", "patch")
]


def children(shape=(2, 6, 7, 3), pose=(4, 4), seed=0):
    rng = np.random.default_rng(seed)
    poses = rng.normal(size=(*shape, *pose)).astype("float32")
    return poses, rng.random(shape).astype("float32")


def golden_layer(case, competition):
    route = routing.EMRouting(
        int(case["iterations"]),
        float(case["inverse_temperature"]),
        float(case["min_variance"]),
        competition,
        "paper",
        "product",
    )
    kernel = case["kernel"]
    strides = tuple(int(stride) for stride in case["strides"])
    layer = layers.ConvCapsule(
        kernel.shape[3], None, kernel.shape[:2], strides, routing=route
    )
    layer.build((case["poses"].shape, case["child_activations"].shape))
    layer.kernel.assign(kernel)
    route.beta_u.assign(case["beta_u"])
    route.beta_a.assign(case["beta_a"])
    return layer


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name):
    case = golden(name)
    layer = golden_layer(case, name.split("_")[-1])
    inputs = [case[n].astype("float32") for n in ("poses", "child_activations")]
    poses, activations = layer(inputs)
    close(poses, case["parent_poses"], atol=1e-5)
    close(activations, case["parent_activations"])


def test_competition_over_the_image_moves_assignments():
    layer, inputs = layers.ConvCapsule(2), children()
    layer.build([x.shape for x in inputs])
    image = layer.trace(inputs)["weights"]
    layer.routing.competition = "patch"
    patch = layer.trace(inputs)["weights"]
    assert float(keras.ops.max(keras.ops.abs(image - patch))) > 0.1


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_competition_is_the_same_where_patches_do_not_overlap(padding):
    layer = layers.ConvCapsule(2, kernel_size=(2, 3), strides=(2, 3), padding=padding)
    inputs = children((2, 5, 7, 3))
    image = layer(inputs)
    layer.routing.competition = "patch"
    for a, b in zip(image, layer(inputs), strict=True):
        close(a, b, atol=1e-5)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [1, (2, 1)])
@pytest.mark.parametrize("size", [(3, 2), (5, 5), (6, 9), (8, 4), (12, 11)])
def test_output_shape(padding, strides, size):
    layer = layers.ConvCapsule(4, kernel_size=(3, 2), strides=strides, padding=padding)
    inputs = children((2, *size, 3))
    expected = layer.compute_output_shape([x.shape for x in inputs])
    assert tuple(tuple(x.shape) for x in layer(inputs)) == expected
    steps = np.array(strides) * [1, 1]
    reach = np.array([0, 0] if padding == "same" else [2, 1])
    grid = tuple(int(n) for n in -(-(size - reach) // steps))
    assert expected == ((2, *grid, 4, 4, 4), (2, *grid, 4))
    unknown = layer.compute_output_shape(((None, *size, 3, 4, 4), (None, *size, 3)))
    assert unknown[1] == (None, *grid, 4)


def test_padded_children_are_inactive():
    """Padding is as good as a border of inactive children."""
    poses, activations = children((2, 5, 5, 3))
    border = ((0, 0), (1, 1), (1, 1), (0, 0))
    padded = (
        np.pad(poses, (*border, (0, 0), (0, 0)), constant_values=9.0),
        np.pad(activations, border),
    )
    # The measure of mass and the competition of a border differ, no more.
    paper = {"inverse_temperature": 0.01, "cost": "paper", "competition": "patch"}
    same = layers.ConvCapsule(4, padding="same", routing=routing.EMRouting(**paper))
    valid = layers.ConvCapsule(4, routing=routing.EMRouting(**paper))
    outputs = same((poses, activations))
    valid.build([x.shape for x in padded])
    valid.kernel.assign(same.kernel)
    for a, b in zip(outputs, valid(padded), strict=True):
        close(a, b, atol=1e-5)


def test_pose_shapes():
    poses, activations = children(pose=(2, 5))
    parents, _ = layers.ConvCapsule(4, pose_shape=(2, 3))((poses, activations))
    assert tuple(parents.shape) == (2, 4, 5, 4, 2, 3)
    with pytest.raises(ValueError, match="pose_shape"):
        layers.ConvCapsule(4, pose_shape=(3, 3))((poses, activations))
    with pytest.raises(ValueError, match="pose_shape"):
        layers.ConvCapsule(4, pose_shape=8)((poses, activations))


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_vector_capsules_with_dynamic_routing(padding):
    poses, _ = children(pose=(8,))
    layer = layers.ConvCapsule(4, 6, (3, 2), 2, padding, "dynamic")
    parents = layer(poses)
    assert tuple(parents.shape) == layer.compute_output_shape(poses.shape)
    assert parents.shape[-2:] == (4, 6)
    lengths = np.linalg.norm(keras.ops.convert_to_numpy(parents), axis=-1)
    assert 0 < lengths.max() < 1
    if padding == "valid":  # the first patch, as the children of a routing
        kernel = keras.ops.reshape(layer.kernel, (18, 4, 8, 6))
        expected = layer.routing(poses[:, :3, :2].reshape(2, 18, 1, 8), kernel)
        close(parents[:, 0, 0], expected[:, :, 0], atol=1e-5)


def test_vector_capsules_with_em_routing_are_as_active_as_they_are_long():
    poses, _ = children(pose=(8,))
    poses /= 10.0
    layer = layers.ConvCapsule(4, routing="em")
    found = layer(poses)
    lengths = np.sqrt((poses**2).sum(-1) + 1e-7)
    for a, b in zip(found, layer((poses, lengths)), strict=True):
        close(a, b)
    assert tuple(found[0].shape) == (2, 4, 5, 4, 8)


def test_a_kernel_for_every_place_and_type():
    layer = layers.ConvCapsule(5, kernel_size=(3, 2), kernel_regularizer="l2")
    layer.build(((None, 6, 7, 3, 4, 4), (None, 6, 7, 3)))
    assert tuple(layer.kernel.shape) == (3, 2, 3, 5, 4, 4)
    assert layer.count_params() == 3 * 2 * 3 * 5 * 16 + 5 * 5
    assert len(layer.losses) == 1


def test_half_precision():
    layer = layers.ConvCapsule(4, dtype="mixed_bfloat16")
    outputs = layer(children())
    assert {keras.backend.standardize_dtype(x.dtype) for x in outputs} == {"bfloat16"}
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == "float32"
    assert finite(*outputs)


@pytest.mark.parametrize(
    "shape", [(2, 6, 7, 3), (2, None, 7, 3, 4, 4), (2, 6, 7, None, 4, 4)]
)
def test_bad_input_shape(shape):
    with pytest.raises(ValueError, match="height, width, types"):
        layers.ConvCapsule(4).build((shape, shape[:4]))


def test_patch_larger_than_the_image():
    with pytest.raises(ValueError, match="kernel_size"):
        layers.ConvCapsule(4, kernel_size=(3, 8))(children())


def test_another_input_than_it_was_built_for():
    layer = layers.ConvCapsule(4)
    layer(children())
    with pytest.raises(ValueError, match="incompatible with the layer"):
        layer(children((2, 6, 7, 4)))


@pytest.mark.parametrize(
    ("argument", "value"),
    [("kernel_size", 0), ("strides", (1, 2, 3)), ("padding", "full"), ("routing", "x")],
)
def test_bad_arguments(argument, value):
    with pytest.raises(ValueError, match=argument):
        layers.ConvCapsule(**{"capsules": 4, "kernel_size": 3, argument: value})
