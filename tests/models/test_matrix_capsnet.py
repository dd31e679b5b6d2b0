import keras
import numpy as np
import pytest
import scripts
from helpers import (
    POLICIES,
    close,
    finite,
    gradients,
    once,
    random_images,
    small_matrix_capsnet,
)

from keras_capsules import callbacks, losses, models, routing

SHAPE = (20, 19, 1)
# XLA compiles each operation for each shape, and every iteration into a step, of which
# TensorFlow makes a graph: minutes for all of these. PyTorch shows the others.
TORCH = keras.backend.backend() == "torch"
COUNTS = [1, 2, 3, 5] if TORCH else [3]
SIZES = [("small", 28), ("small", 48), ("small", 96), ("paper", 28), ("paper", 40)]


def standardized(count, image_shape=SHAPE, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, *image_shape)).astype("float32")
    return images, rng.integers(0, classes, count)


def test_the_networks_of_the_paper_have_their_parameters():
    # What normalizes costs has a scale and two averages for each parent.
    paper = models.MatrixCapsNet((32, 32, 1), classes=5)
    conv, primary = 25 * 32 + 32, 33 * 32 * 17
    capsules = 2 * (9 * 32 * 32 * 16 + 5 * 32) + 32 * 5 * 16 + 5 * 5
    assert paper.count_params() == conv + primary + capsules == 316_601  # near 310 K
    small = models.MatrixCapsNet((32, 32, 1), classes=5, variant="small")
    conv, primary = 25 * 64 + 64, 65 * 8 * 17
    capsules = 9 * 16 * (8 + 16) * 16 + 10 * 16 + 16 * 5 * 16 + 5 * 5
    assert small.count_params() == conv + primary + capsules  # near 68 K
    assert 66_000 < small.count_params() < 70_000


@once
@pytest.mark.parametrize(("variant", "size"), SIZES)
def test_it_starts_alive(variant, size):
    keras.utils.set_random_seed(1)
    images, _ = standardized(4, (size, size, 1), classes=5)
    model = models.MatrixCapsNet((size, size, 1), 5, variant)
    for layer in model.capsule_layers:
        layer.routing.cost_norm.momentum = 0.0
    # Costs are normalized as in the first step, which has other images.
    model(standardized(24, (size, size, 1), classes=5, seed=1)[0], training=True)
    _, primary = model.primary(model.conv(images))
    traced = [trace["activations"][-1] for trace in model.trace(images).values()]
    assert len(traced) == 3
    for activations in (primary, *traced):
        activations = keras.ops.convert_to_numpy(activations)
        assert 0.2 < activations.mean() < 0.8
        assert activations.min() > 1e-4 and activations.max() < 1.0 - 1e-4
        assert activations.std() > 0.01


def test_assignments_begin_soft():
    """The children that a capsule has, in effect, before anything is learned."""
    images, _ = standardized(1, (28, 28, 1))
    left = {}
    for name, route in {
        "default": routing.EMRouting(),
        "paper": routing.EMRouting(3, 0.01, 5e-4, cost="paper", agreement="product"),
    }.items():
        keras.utils.set_random_seed(0)
        model = models.MatrixCapsNet((28, 28, 1), 10, "small", routing=route)
        weights = model.trace(images)["conv_capsules_1"]["weights"]
        weights = keras.ops.convert_to_numpy(weights)
        shares = weights / weights.sum(-1, keepdims=True)
        first, _, last = np.median(1.0 / (shares**2).sum(-1), axis=(1, 2))
        left[name] = last / first
    assert left["default"] > 0.9 and left["paper"] < 0.15


@once
@pytest.mark.parametrize(
    ("variant", "size"),
    [("small", 28), ("small", 64), ("paper", 28)],
)
def test_the_gradient_reaches_the_first_convolution(variant, size):
    keras.utils.set_random_seed(1)
    images, labels = standardized(2, (size, size, 1), classes=5)
    model = models.MatrixCapsNet((size, size, 1), 5, variant)
    model.compile(keras.optimizers.SGD(1.0), loss=losses.SpreadLoss(0.2))
    kernels = [model.conv.kernel, model.class_capsules.kernel]
    before = [keras.ops.convert_to_numpy(kernel).copy() for kernel in kernels]
    model.train_on_batch(images, labels)
    first, last = (
        np.sqrt(np.mean((keras.ops.convert_to_numpy(after) - start) ** 2))
        for after, start in zip(kernels, before, strict=True)
    )
    assert 0.01 < first / last < 100.0


@pytest.mark.parametrize("iterations", COUNTS)
def test_it_learns_with_any_number_of_iterations(iterations):
    keras.utils.set_random_seed(0)
    images, labels = standardized(48)
    for image, label in zip(images, labels, strict=True):
        image[6 * label : 6 * label + 6] += 2.0
    model = small_matrix_capsnet(routing=routing.EMRouting(iterations))
    model.run_eagerly = False
    schedule = callbacks.SpreadMarginSchedule(0.2, 0.4, 0.9)
    model.fit(images, labels, 8, epochs=12, verbose=0, callbacks=[schedule])
    assert model.evaluate(images, labels, verbose=0, return_dict=True)["accuracy"] > 0.9


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("iterations", COUNTS)
def test_never_nan(policy, iterations):
    model = small_matrix_capsnet(dtype=policy, routing=routing.EMRouting(iterations))
    random, _ = standardized(2)
    for images in (0.0 * random, 0.0 * random + 7.0, 1e4 * random, -1e4 + 0.0 * random):
        outputs = model(images)
        assert finite(*outputs.values())

        def total(x):
            return sum(
                keras.ops.sum(keras.ops.cast(o, "float32")) for o in model(x).values()
            )

        assert finite(*gradients(total, images))


@pytest.mark.parametrize("policy", POLICIES if TORCH else POLICIES[:1])
def test_a_black_image_trains_with_the_standardized_cost(policy):
    route = routing.EMRouting(cost="standardized")
    model = small_matrix_capsnet(dtype=policy, routing=route)
    images, labels = standardized(4)
    images[0] = 0.0
    for _ in range(3):
        model.train_on_batch(images, labels)
    assert finite(*model.weights, *model(images).values())


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("bias", [-12.0, -15.0, -100.0])
def test_never_nan_without_active_capsules(policy, bias):
    model = small_matrix_capsnet(dtype=policy)
    activation_channels = np.arange(2 * 17) % 17 == 16
    model.primary.conv.bias.assign(bias * activation_channels)
    images, labels = standardized(2)
    loss = losses.SpreadLoss()
    assert finite(
        *gradients(lambda x: loss(labels, model(x)["scores"]), images),
        *model(images).values(),
    )


def test_a_grid_of_one_and_one_class():
    images, _ = standardized(2, (17, 18, 2))
    model = models.MatrixCapsNet((17, 18, 2), 1, (4, 1, 1, 1))
    assert model.conv_capsules_2.compute_output_shape(
        ((None, 3, 3, 1, 4, 4), (None, 3, 3, 1))
    )[1] == (None, 1, 1, 1)
    outputs = model(images)
    assert tuple(outputs["scores"].shape) == (2, 1) and finite(*outputs.values())


def test_any_image_size_and_channels():
    image_shape = (20, 31, 3)
    model = small_matrix_capsnet(image_shape, routing=routing.EMRouting(1))
    images, labels = standardized(4, image_shape)
    model.fit(images, labels, verbose=0)
    outputs = model.predict(images, verbose=0)
    shapes = model.compute_output_shape((4, *image_shape))
    assert {name: outputs[name].shape for name in outputs} == shapes


def test_trace_ends_with_the_scores():
    model, (images, _) = small_matrix_capsnet(), standardized(3)
    trace = model.trace(images)
    assert list(trace) == ["conv_capsules_1", "conv_capsules_2", "class_capsules"]
    close(trace["class_capsules"]["activations"][-1], model(images)["scores"])
    with pytest.raises(ValueError, match="images"):
        model.trace(images[:, 1:])


def test_decoder():
    model = small_matrix_capsnet(
        decoder_units=(8,), reconstruction_weight=2.0, routing=routing.EMRouting(1)
    )
    images, labels = random_images(8, SHAPE)
    outputs = model.predict(images, verbose=0)
    drawn = keras.ops.convert_to_numpy(model.decode(outputs["poses"], labels))
    spread = float(losses.SpreadLoss(0.5)(labels, outputs["scores"]))
    expected = spread + 2.0 * np.mean((images - drawn) ** 2)
    loss = model.evaluate(images, labels, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(expected, rel=1e-4)
    close(
        model.reconstruct(images),
        model.decode(outputs["poses"], outputs["scores"].argmax(-1)),
    )
    with pytest.raises(ValueError, match="has no decoder"):
        small_matrix_capsnet().reconstruct(images)
    with pytest.raises(TypeError, match="objects"):
        small_matrix_capsnet(objects=2)


def test_saved_and_loaded_in_a_new_process(tmp_path):
    model = small_matrix_capsnet(
        decoder_units=(8,),
        coordinate_addition=False,
        routing=routing.EMRouting(2, min_variance=0.5, competition="patch"),
    )
    images, labels = standardized(6)
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "case.npz", images=images, **model.predict(images, verbose=0))
    program = """
import keras, numpy as np, keras_capsules
model = keras.saving.load_model("model.keras", safe_mode=True)
case = np.load("case.npz")
outputs = model.predict(case["images"], verbose=0)
for name in ("scores", "poses"):
    np.testing.assert_allclose(outputs[name], case[name], rtol=1e-5, atol=1e-6)
assert model.class_capsules.routing.competition == "patch"
"""
    result = scripts.python(tmp_path, program)
    assert result.returncode == 0, result.stderr


def test_each_layer_has_a_routing_of_its_own():
    route = routing.EMRouting(2)
    model = small_matrix_capsnet(routing=route)
    routings = [layer.routing for layer in model.capsule_layers]
    assert len({id(r) for r in (route, *routings)}) == 4
    assert {r.iterations for r in routings} == {2}


def test_the_policy_reaches_every_layer_but_the_last():
    model = small_matrix_capsnet(dtype="mixed_bfloat16")
    exact = {x.name for x in model.layers if x.compute_dtype == "float32"}
    assert exact == {"class_capsules"}
    outputs = model(standardized(2)[0])
    assert keras.backend.standardize_dtype(outputs["scores"].dtype) == "float32"
    assert keras.backend.standardize_dtype(outputs["poses"].dtype) == "bfloat16"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("input_shape", (16, 28, 1)),
        ("classes", 0),
        ("variant", "large"),
        ("variant", (1, 2, 3)),
        ("routing", "dynamic"),
    ],
)
def test_bad_arguments(argument, value):
    settings = {"input_shape": SHAPE, "classes": 3, argument: value}
    with pytest.raises(ValueError, match=argument):
        models.MatrixCapsNet(**settings)
