import keras
import numpy as np
import pytest
from helpers import (
    POLICIES,
    close,
    finite,
    random_images,
    small_efficient_capsnet,
)

from keras_capsules import export, losses, models, routing

# The last leaves a grid of one place.
SIZES = [(17, 20, 3), (24, 13, 2), (9, 10, 1)]


def trained_a_little(**kwargs):
    """A network whose moving averages are those of its images, and the images."""
    model = small_efficient_capsnet(**kwargs)
    images, labels = random_images(8, model.image_shape)
    for layer in model.convolutions[1::2]:
        layer.momentum = 0.5
    model.fit(images, labels, epochs=2, batch_size=4, verbose=0)
    return model, images


@pytest.fixture(scope="module")
def trained():
    """One for several tests, which leave it as it is."""
    return trained_a_little()


def count_of(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def test_the_network_of_the_paper_has_its_parameters():
    model = models.EfficientCapsNet((28, 28, 1), classes=10, decoder_units=None)
    conv = 26 * 32 + 289 * 64 + 577 * 64 + 577 * 128
    normalization = 2 * (32 + 64 + 64 + 128)
    depthwise = 9 * 9 * 128 + 128
    classes = 16 * 10 * 8 * 16 + 16 * 10  # and the prior of the routing
    expected = conv + normalization + depthwise + classes
    assert count_of(model.trainable_weights) == expected == 161_824
    assert count_of(model.non_trainable_weights) == normalization
    decoder = 161 * 512 + 513 * 1024 + 1025 * 784
    whole = models.EfficientCapsNet((28, 28, 1), classes=10)
    assert count_of(whole.trainable_weights) == expected + decoder


def test_the_small_network_has_its_parameters():
    settings = models.EfficientCapsNet.variants["small"]
    model = models.EfficientCapsNet((28, 28, 1), 10, **settings)
    conv = 26 * 16 + 145 * 32 + 289 * 128
    normalization = 2 * (16 + 32 + 128)
    depthwise = 10 * 10 * 128 + 128
    classes = 16 * 10 * 8 * 16 + 16 * 10
    decoder = 161 * 256 + 257 * 512 + 513 * 784
    expected = conv + normalization + depthwise + classes + decoder
    assert count_of(model.trainable_weights) == expected == 650_960


@pytest.mark.parametrize("image_shape", SIZES)
def test_any_image_size_and_channels(image_shape):
    model = small_efficient_capsnet(image_shape)
    images, labels = random_images(4, image_shape)
    model.fit(images, labels, verbose=0)
    outputs = model.predict(images, verbose=0)
    shapes = model.compute_output_shape((4, *image_shape))
    assert {name: outputs[name].shape for name in outputs} == shapes
    assert shapes == {"scores": (4, 3), "poses": (4, 3, 6)}
    assert tuple(model.reconstruct(images).shape) == images.shape


@pytest.mark.parametrize("filters", [(), (4,), (4, 5, 6)])
def test_the_smallest_image(filters):
    least = 5 + 2 * len(filters)
    model = small_efficient_capsnet((least, least + 1, 1), filters=filters)
    assert model.primary.kernel.shape[0] == 1
    assert finite(model(random_images(2, model.image_shape)[0])["scores"])
    for image_shape in ((least - 1, least, 1), (least, least - 1, 1)):
        message = f"`input_shape` must be at least {least} pixels"
        with pytest.raises(ValueError, match=message):
            small_efficient_capsnet(image_shape, filters=filters)


def test_primary_capsules_are_those_of_the_paper():
    """A depthwise convolution as large as the grid, and a squash of each pose."""
    model, images = trained_a_little(image_shape=(17, 22, 2))
    features = images
    for layer in model.convolutions:
        features = layer(features)
    features = keras.ops.convert_to_numpy(features)
    assert features.shape == (8, 5, 7, 12)
    depthwise = keras.layers.DepthwiseConv2D((5, 7), data_format="channels_last")
    depthwise.build(features.shape)
    kernel, bias = model.primary.get_weights()
    bias = np.random.default_rng(0).normal(size=bias.shape).astype("float32")
    model.primary.set_weights([kernel, bias])
    depthwise.set_weights([kernel.reshape(5, 7, 12, 1), bias])
    expected = keras.ops.convert_to_numpy(depthwise(features))
    assert expected.shape == (8, 1, 1, 12)
    close(model.primary(model.positions(features)), expected[:, 0, 0], atol=1e-5)

    poses = expected.reshape(8, 3, 4).astype("float64")
    length = np.linalg.norm(poses, axis=-1, keepdims=True)
    squashed = (1.0 - np.exp(-length)) * poses / length
    close(model.lowest_capsules(images), squashed, atol=1e-5)


def test_the_grid_is_what_the_convolutions_leave():
    model = models.EfficientCapsNet((28, 30, 1), 10, decoder_units=None)
    assert tuple(model.primary.kernel.shape) == (9 * 10, 128)
    kernels = [layer.kernel_size for layer in model.convolutions[::2]]
    assert kernels == [(5, 5), (3, 3), (3, 3), (3, 3)]
    strides = [layer.strides for layer in model.convolutions[::2]]
    assert strides == [(1, 1), (1, 1), (1, 1), (2, 2)]


def test_fit_learns_to_tell_images_apart():
    model = small_efficient_capsnet()
    model.run_eagerly = False
    images, labels = random_images(24)
    images *= 0.1
    for image, label in zip(images, labels, strict=True):
        image[5 * label : 5 * label + 5] += 0.9
    before = [keras.ops.convert_to_numpy(w).copy() for w in model.trainable_weights]
    history = model.fit(images, labels, epochs=8, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]
    assert history["accuracy"][-1] > 0.8
    for weight, start in zip(model.trainable_weights, before, strict=True):
        assert abs(keras.ops.convert_to_numpy(weight) - start).max() > 1e-3, weight.path


def test_moving_averages_follow_the_images_in_fit_alone():
    model = small_efficient_capsnet()
    images, labels = random_images(8)
    start = [w.copy() for w in map(keras.ops.convert_to_numpy, averages(model))]
    for average, value in zip(start, [0.0, 1.0] * 3, strict=True):
        assert (average == value).all()  # nothing was seen while it was built
    model.predict(images, verbose=0)
    model.evaluate(images, labels, verbose=0)
    model.reconstruct(images)
    model.trace(images)
    for average, before in zip(averages(model), start, strict=True):
        close(average, before, rtol=0.0, atol=0.0)
    features = model.convolutions[0](images)
    mean = keras.ops.convert_to_numpy(features).mean((0, 1, 2))
    model.train_on_batch(images, labels)
    for average, before in zip(averages(model), start, strict=True):
        assert abs(keras.ops.convert_to_numpy(average) - before).max() > 1e-4
    close(averages(model)[0], mean, rtol=1e-3)


def averages(model):
    """Mean and variance of each batch normalization, in their order."""
    return [
        average
        for layer in model.convolutions[1::2]
        for average in (layer.moving_mean, layer.moving_variance)
    ]


def test_what_is_predicted_does_not_depend_on_the_batch(trained):
    model, images = trained
    together = model.predict(images, verbose=0)
    for name, value in model.predict(images[:1], verbose=0).items():
        close(value, together[name][:1], atol=1e-5)
    close(model(images)["scores"], together["scores"], atol=1e-5)
    whole, part = (
        keras.ops.convert_to_numpy(model(x, training=True)["scores"])
        for x in (images, images[:2])
    )
    assert abs(whole[:2] - part).max() > 1e-3


def test_the_class_capsules_attend_to_the_primary_ones(trained):
    model, images = trained
    assert isinstance(model.routing, routing.SelfAttentionRouting)
    outputs = model.predict(images, verbose=0)
    lengths = np.sqrt(np.sum(outputs["poses"] ** 2, -1))
    close(outputs["scores"], lengths, atol=1e-3)
    assert tuple(model.lowest_capsules(images).shape) == (8, 3, 4)
    weights = model.trace(images)["class_capsules"]["weights"]
    assert tuple(weights.shape)[-2:] == (3, 3)


def test_several_objects():
    model = small_efficient_capsnet(objects=2)
    images, _ = random_images(4)
    poses = model(images)["poses"]
    first, second = (
        keras.ops.convert_to_numpy(model.decode(poses, np.full(4, k))) for k in (0, 2)
    )
    both = np.tile([1, 0, 1], (4, 1))
    close(model.decode(poses, both), np.maximum(first, second))


def test_without_decoder():
    model = small_efficient_capsnet(decoder_units=None)
    images, labels = random_images(4)
    scores = model.predict(images, verbose=0)["scores"]
    expected = float(losses.MarginLoss()(labels, scores))
    assert model.evaluate(images, labels, verbose=0)[0] == pytest.approx(expected)
    with pytest.raises(ValueError, match="no decoder"):
        model.reconstruct(images)


@pytest.mark.parametrize("policy", POLICIES)
def test_never_nan(policy):
    model = small_efficient_capsnet(dtype=policy)
    start = model.get_weights()
    random, labels = random_images(8)
    for scale in (0.0, 1.0, 1e4):
        images = scale * random
        model.set_weights(start)
        assert finite(*model(images).values()), scale
        for _ in range(3):
            loss, _ = model.train_on_batch(images, labels)
            assert np.isfinite(loss), scale
        outputs = model(images)
        drawn = model.reconstruct(images)
        assert finite(*model.weights, *outputs.values(), drawn), scale
        dtype = keras.backend.standardize_dtype(outputs["scores"].dtype)
        assert dtype == "float32"


def test_precision_belongs_to_the_model(tmp_path):
    model, images = trained_a_little(dtype="mixed_bfloat16")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for layer in (*again.lower_layers, again.class_capsules):
        assert layer.compute_dtype == "bfloat16", layer.name
        assert layer.variable_dtype == "float32", layer.name
    assert again.length.compute_dtype == "float32"
    for name, value in model(images).items():
        close(again(images)[name], value)


@pytest.mark.parametrize(
    "other", [None, routing.DynamicRouting(2)], ids=["self_attention", "dynamic"]
)
def test_saved_and_loaded(trained, tmp_path, other):
    model, images = trained_a_little(routing=other) if other else trained
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    assert int(again.optimizer.iterations) == 4
    assert type(again.routing) is type(model.routing)
    assert other is None or again.routing.iterations == 2
    outputs = model.predict(images, verbose=0)
    for name, value in again.predict(images, verbose=0).items():
        close(value, outputs[name])
    close(again.reconstruct(images), model.reconstruct(images))


def test_config_round_trip():
    arguments = {
        "input_shape": (20, 18, 2),
        "classes": 4,
        "filters": (5, 4, 3),
        "primary_capsules": 7,
        "primary_pose_shape": 6,
        "class_pose_shape": 9,
        "routing": routing.SelfAttentionRouting(stop_gradient=True),
        "decoder_units": (11,),
        "reconstruction_weight": 0.7,
        "objects": 2,
        "name": "network",
        "dtype": "mixed_bfloat16",
    }
    # In this order, but for the last two.
    *values, name, dtype = arguments.values()
    model = models.EfficientCapsNet(*values, name=name, dtype=dtype)
    config = model.get_config()
    for name in arguments.keys() - {"routing", "dtype"}:
        assert config[name] == arguments[name], name
    again = models.EfficientCapsNet.from_config(config)
    assert again.get_config() == config
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    assert again.routing.stop_gradient and again.compute_dtype == "bfloat16"


def test_frozen():
    model = small_efficient_capsnet(trainable=False)
    again = models.EfficientCapsNet.from_config(model.get_config())
    assert not model.trainable_weights and not again.trainable_weights
    model = small_efficient_capsnet()
    model.convolutions[0].trainable = False
    again = models.EfficientCapsNet.from_config(model.get_config())
    assert not again.convolutions[0].trainable and again.convolutions[2].trainable


def test_symbolic_outputs_have_the_dtypes_of_the_real_ones():
    model = small_efficient_capsnet(dtype="mixed_bfloat16")
    symbolic, real = model(keras.Input((16, 14, 1))), model(random_images(2)[0])
    for name in ("scores", "poses"):
        dtype = keras.backend.standardize_dtype(real[name].dtype)
        assert symbolic[name].dtype == dtype


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="only TensorFlow exports SavedModels",
)
@pytest.mark.parametrize("policy", POLICIES[:2])
def test_exported_as_a_saved_model(trained, tmp_path, policy):
    import tensorflow as tf

    whole = policy == "float32"
    model, images = trained if whole else trained_a_little(dtype=policy)
    path = export.export_saved_model(model, tmp_path)
    served = tf.saved_model.load(path).signatures
    outputs = model.predict(images, verbose=0)
    expected = {
        **outputs,
        "classes": outputs["scores"].argmax(-1),
        "reconstructions": model.reconstruct(images),
    }
    atol = 1e-5 if whole else 0.02
    for count in (1, 5):
        some = tf.constant(images[:count])
        found = dict(served["serving_default"](images=some))
        found.update(served["reconstruct"](images=some))
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert found[name].dtype == ("int32" if name == "classes" else "float32")
            close(found[name], value[:count], atol=atol)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("input_shape", {"image_shape": 28}),
        ("input_shape", {"image_shape": (28, 28)}),
        ("input_shape", {"image_shape": (None, 28, 1)}),
        ("classes", {"classes": 0}),
        ("filters", {"filters": 32}),
        ("filters", {"filters": (4, 0)}),
        ("filters", {"filters": (4, 2.5)}),
        ("primary_capsules", {"primary_capsules": 0}),
        ("primary_pose_shape", {"primary_pose_shape": 0}),
        ("primary_pose_shape", {"primary_pose_shape": (4, 4)}),
        ("class_pose_shape", {"class_pose_shape": 0}),
        ("routing", {"routing": "no"}),
        ("objects", {"objects": 4}),
        ("decoder_units", {"decoder_units": (8, 0)}),
        ("decoder_units", {"decoder_units": 8}),
        ("reconstruction_weight", {"reconstruction_weight": -1}),
    ],
)
def test_bad_argument(name, settings):
    with pytest.raises(ValueError, match=f"`{name}`"):
        small_efficient_capsnet(**settings)


def test_bad_labels_and_images():
    model = small_efficient_capsnet()
    images, labels = random_images(4)
    with pytest.raises(ValueError, match="`y` holds the label 3"):
        model.fit(images, labels * 0 + 3)
    with pytest.raises(ValueError, match="`labels` must have shape"):
        model.reconstruct(images, np.zeros((4, 5)))
    with pytest.raises(ValueError, match="incompatible with the layer"):
        model(images[:, :-1])


@pytest.mark.parametrize(
    ("image_shape", "classes"), [((20, 18, 1), 2), ((28, 28, 1), 10), ((40, 44, 3), 30)]
)
@pytest.mark.parametrize("variant", ["small", "paper"])
def test_lengths_of_an_untrained_network(image_shape, classes, variant):
    settings = {**models.EfficientCapsNet.variants[variant], "decoder_units": None}
    model = models.EfficientCapsNet(image_shape, classes, **settings)
    images, _ = random_images(3, image_shape)
    for training in (False, True):
        lengths = model(images, training=training)["scores"]
        assert 0.1 < keras.ops.convert_to_numpy(lengths).mean() < 0.6
