"""What Keras tests of its own layers, for every layer and every routing of ours."""

import warnings

import numpy as np
import pytest

from keras_capsules import layers, routing

try:  # not public
    from keras.src.testing import TestCase
except ImportError:
    pytest.skip("this Keras has no run_layer_test", allow_module_level=True)

# Vectors of size 4 and matrices of 2 × 2, of two types on a grid.
VECTORS = (2, 3, 2, 2, 4)
MATRICES = ((2, 3, 2, 2, 2, 2), (2, 3, 2, 2))
ROUTINGS = {name: type(routing.get(name)) for name in routing.names()}


def run(layer, arguments, outputs, train=False, **inputs):
    """Keras's test of a layer: configs, build, symbolic and eager calls, precision."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`shuffle=True` was passed")
        TestCase().run_layer_test(
            layer,
            arguments,
            expected_output_shape=outputs,
            run_training_check=train,
            **inputs,
        )


def parents(name, *poses):
    """The shapes of what a layer with this routing returns."""
    capsules = poses[: poses.index(5) + 1]
    return (poses, capsules) if ROUTINGS[name].computes_activations else poses


@pytest.mark.parametrize("name", ROUTINGS)
def test_digit_capsule(name):
    run(
        layers.DigitCapsule,
        {"capsules": 5, "pose_shape": 3, "routing": name},
        parents(name, 2, 5, 3),
        train=name == "dynamic",
        input_shape=VECTORS,
    )


@pytest.mark.parametrize("name", ROUTINGS)
def test_conv_capsule(name):
    run(
        layers.ConvCapsule,
        {"capsules": 5, "kernel_size": (2, 1), "padding": "same", "routing": name},
        parents(name, 2, 3, 2, 5, 2, 2),
        train=name == "self_attention",
        input_shape=MATRICES,
    )


@pytest.mark.parametrize("name", ROUTINGS)
def test_em_routing_capsule(name):
    run(
        layers.EMRoutingCapsule,
        {"capsules": 5, "routing": name},
        parents(name, 2, 5, 2, 2),
        train=name == "self_attention",
        input_shape=MATRICES,
    )


@pytest.mark.parametrize("name", ROUTINGS)
def test_routing(name):
    run(
        ROUTINGS[name],
        {},
        parents(name, 2, 5, 2, 4),
        # Whatever the policy, a routing computes in at least float32.
        run_mixed_precision_check=False,
        input_shape={"poses_shape": (2, 3, 2, 2), "kernel_shape": (3, 5, 2, 4)},
        call_kwargs={"activations": np.full((2, 3), 0.5, "float32")},
    )


@pytest.mark.parametrize(
    ("pose_shape", "outputs"),
    [(4, (2, 2, 1, 5, 4)), ((2, 3), ((2, 2, 1, 5, 2, 3), (2, 2, 1, 5)))],
)
def test_primary_capsule(pose_shape, outputs):
    run(
        layers.PrimaryCapsule,
        {"capsules": 5, "pose_shape": pose_shape, "kernel_size": 2, "strides": (1, 2)},
        outputs,
        train=pose_shape == 4,
        input_shape=(2, 3, 2, 2),
    )


@pytest.mark.parametrize("shape", [VECTORS, MATRICES])
def test_pose_normalization(shape):
    run(layers.PoseNormalization, {}, shape, input_shape=shape)


def test_capsule_length():
    run(layers.CapsuleLength, {}, VECTORS[:-1], input_shape=VECTORS)


def test_capsule_mask():
    run(layers.CapsuleMask, {}, (2, 3, 4), input_shape=(2, 3, 4))


def test_capsule_mask_with_labels():
    shapes = {"poses_shape": (2, 3, 4), "labels_shape": (2,)}
    dtypes = {"poses_shape": "float32", "labels_shape": "int32"}
    run(layers.CapsuleMask, {}, (2, 3, 4), input_shape=shapes, input_dtype=dtypes)
