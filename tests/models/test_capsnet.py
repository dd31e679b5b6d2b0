import keras
import numpy as np
import pytest
import scripts
from helpers import POLICIES, close, finite, random_images, small_capsnet

from keras_capsules import losses, models, routing

SIZES = [(16, 14, 1), (16, 16, 1), (17, 20, 3), (20, 20, 2), (24, 13, 1)]


def test_the_network_of_the_paper_has_its_parameters():
    model = models.CapsNet((28, 28, 1), classes=10)
    conv, primary = 81 * 256 + 256, 81 * 256 * 256 + 256
    digit = 1152 * 10 * 8 * 16
    decoder = 161 * 512 + 513 * 1024 + 1025 * 784
    assert model.count_params() == conv + primary + digit + decoder == 8_215_568
    without = models.CapsNet((28, 28, 1), classes=10, decoder_units=None)
    assert without.count_params() == 6_804_224


@pytest.mark.parametrize(
    ("variant", "parameters"), [("paper", 8_215_568), ("small", 1_280_720)]
)
def test_named_sizes(variant, parameters):
    model = models.CapsNet((28, 28, 1), 10, **models.CapsNet.variants[variant])
    assert model.count_params() == parameters


@pytest.mark.parametrize("image_shape", SIZES)
def test_any_image_size_and_channels(image_shape):
    model = small_capsnet(image_shape, kernel_size=(5, 3))
    images, labels = random_images(4, image_shape)
    model.fit(images, labels, verbose=0)
    outputs = model.predict(images, verbose=0)
    shapes = model.compute_output_shape((4, *image_shape))
    assert {name: outputs[name].shape for name in outputs} == shapes
    assert tuple(model.reconstruct(images).shape) == images.shape


@pytest.mark.parametrize("loop", ["while", "unroll"])
@pytest.mark.parametrize("labels", ["integers", "one-hot"])
def test_fit_learns_to_tell_images_apart(loop, labels):
    model = small_capsnet(routing=routing.DynamicRouting(3, loop))
    model.run_eagerly = False
    images, y = random_images(24)
    images *= 0.1
    for image, label in zip(images, y, strict=True):
        image[5 * label : 5 * label + 5] += 0.9
    y = np.eye(3)[y] if labels == "one-hot" else y
    history = model.fit(images, y, epochs=20, batch_size=8, verbose=0).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert model.evaluate(images, y, verbose=0, return_dict=True)["accuracy"] > 0.9


def test_loss_is_margin_plus_weighted_pixel_error():
    model = small_capsnet(reconstruction_weight=2.0)
    images, labels = random_images(8)
    outputs = model.predict(images, verbose=0)
    drawn = keras.ops.convert_to_numpy(model.decode(outputs["poses"], labels))
    margin = float(losses.MarginLoss()(labels, outputs["scores"]))
    expected = margin + 2.0 * np.mean((images - drawn) ** 2)
    loss = model.evaluate(images, labels, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(expected, rel=1e-4)


def test_sample_weight_weighs_both_losses():
    model = small_capsnet()
    images, labels = random_images(8)
    halves = [model.evaluate(images[k::2], labels[k::2], verbose=0)[0] for k in (0, 1)]
    weight = np.tile([2.0, 0.0], 4)
    loss = model.evaluate(images, labels, sample_weight=weight, verbose=0)[0]
    assert loss == pytest.approx(halves[0], rel=1e-4) != pytest.approx(halves[1])


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow",
    reason="JAX always compiles by XLA, PyTorch only on demand",
)
def test_compiled_by_xla_as_keras_does_on_a_gpu():
    images, labels = random_images(8)
    fits = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(0)
        model = small_capsnet(objects=2)
        model.compile("adam", losses.MarginLoss(), jit_compile=jit_compile)
        fits.append(model.fit(images, np.eye(3)[labels], epochs=3, verbose=0))
    plain, compiled = (fit.history["loss"] for fit in fits)
    np.testing.assert_allclose(plain, compiled, rtol=1e-3)


def test_default_weight_is_the_papers():
    assert small_capsnet().reconstruction_weight == pytest.approx(0.0005 * 784)


def test_decode_draws_the_labels_or_the_longest_capsule():
    model = small_capsnet()
    images, _ = random_images(6)
    outputs = model.predict(images, verbose=0)
    longest = outputs["scores"].argmax(-1)
    close(model.decode(outputs["poses"]), model.decode(outputs["poses"], longest))
    close(model.reconstruct(images), model.decode(outputs["poses"], np.eye(3)[longest]))
    other = model.decode(outputs["poses"], (longest + 1) % 3)
    with pytest.raises(AssertionError):
        close(other, model.decode(outputs["poses"]))


def test_em_routing(tmp_path):
    model = small_capsnet(routing="em")
    images, labels = random_images(6)
    model.fit(images, labels, verbose=0)
    outputs = model.predict(images, verbose=0)
    assert outputs["scores"].shape == (6, 3) and outputs["poses"].shape == (6, 3, 6)
    close(
        model.reconstruct(images),
        model.decode(outputs["poses"], outputs["scores"].argmax(-1)),
    )
    with pytest.raises(ValueError, match="`labels`"):
        model.decode(outputs["poses"])
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    close(again(images)["scores"], outputs["scores"])


def test_several_objects_are_drawn_alone_and_joined_by_their_maximum():
    model = small_capsnet(objects=2)
    images, _ = random_images(4)
    poses = model.predict(images, verbose=0)["poses"]
    first, second = (
        keras.ops.convert_to_numpy(model.decode(poses, np.full(4, k))) for k in (0, 2)
    )
    both = np.tile([1, 0, 1], (4, 1))
    close(model.decode(poses, both), np.maximum(first, second))
    model.fit(images, both, verbose=0)


def test_without_decoder():
    model = small_capsnet(decoder_units=None)
    images, labels = random_images(4)
    scores = model.predict(images, verbose=0)["scores"]
    expected = float(losses.MarginLoss()(labels, scores))
    assert model.evaluate(images, labels, verbose=0)[0] == pytest.approx(expected)
    with pytest.raises(ValueError, match="no decoder"):
        model.reconstruct(images)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_never_nan(policy, scale):
    model = small_capsnet(dtype=policy)
    images, labels = random_images(8)
    for _ in range(3):
        loss, _ = model.train_on_batch(images * scale, labels)
        assert np.isfinite(loss)
    assert finite(*model.weights, *model(images).values(), model.reconstruct(images))
    assert keras.backend.standardize_dtype(model(images)["scores"].dtype) == "float32"


def test_precision_belongs_to_the_model(tmp_path):
    model = small_capsnet(dtype="mixed_bfloat16")
    model.train_on_batch(*random_images(4))
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    for layer in (again.conv, again.primary, again.primary.conv, again.class_capsules):
        assert layer.compute_dtype == "bfloat16", layer.name
    assert again.length.compute_dtype == "float32"


def test_saved_and_loaded_in_a_new_process(tmp_path):
    model = small_capsnet(routing=routing.DynamicRouting(2, "unroll"))
    images, labels = random_images(8)
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    program = """
import keras, numpy as np
import keras_capsules
model = keras.saving.load_model("model.keras", safe_mode=True)
assert model.class_capsules.routing.iterations == 2
assert int(model.optimizer.iterations) == 1
scores = model.predict(np.load("images.npy"), verbose=0)["scores"]
np.save("scores.npy", scores)
"""
    result = scripts.python(tmp_path, program)
    assert result.returncode == 0, result.stderr
    scores = model.predict(images, verbose=0)["scores"]
    np.testing.assert_allclose(np.load(tmp_path / "scores.npy"), scores, atol=1e-6)


def test_config_round_trip():
    route = routing.DynamicRouting(5)
    model = models.CapsNet(
        (20, 18, 2), 4, 5, (4, 3), 3, 6, (1, 2), 7, route, (9,), 0.7, 2
    )
    again = models.CapsNet.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    assert (
        again.reconstruction_weight == 0.7
        and again.class_capsules.routing.iterations == 5
    )


def test_symbolic_outputs_have_the_dtypes_of_the_real_ones():
    model = small_capsnet(dtype="mixed_bfloat16")
    symbolic, real = model(keras.Input((16, 14, 1))), model(random_images(2)[0])
    for name in ("scores", "poses"):
        dtype = keras.backend.standardize_dtype(real[name].dtype)
        assert symbolic[name].dtype == dtype


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("input_shape", {"image_shape": 28}),
        ("input_shape", {"image_shape": (28, 28)}),
        ("input_shape", {"image_shape": (None, 28, 1)}),
        ("classes", {"classes": 0}),
        ("filters", {"filters": 0}),
        ("primary_capsules", {"primary_capsules": 0}),
        ("primary_pose_shape", {"primary_pose_shape": 0}),
        ("class_pose_shape", {"class_pose_shape": 0}),
        ("kernel_size", {"kernel_size": "nine"}),
        ("kernel_size", {"kernel_size": 9}),  # 8 rows are left of 16
        ("kernel_size", {"kernel_size": 15}),
        ("routing", {"routing": "no"}),
        ("objects", {"objects": 4}),
        ("decoder_units", {"decoder_units": (8, 0)}),
        ("decoder_units", {"decoder_units": 8}),
    ],
)
def test_bad_argument(name, settings):
    with pytest.raises(ValueError, match=f"`{name}`"):
        small_capsnet(**settings)


def test_bad_labels_and_images():
    model = small_capsnet()
    images, labels = random_images(4)
    with pytest.raises(ValueError, match="`y` holds the label 3"):
        model.fit(images, labels * 0 + 3)
    with pytest.raises(ValueError, match="`y` must have shape"):
        model.fit(images, np.zeros((4, 5)))
    with pytest.raises(ValueError, match="`y` holds the label 3"):
        model.evaluate(images, labels * 0 + 3)
    with pytest.raises(ValueError, match="`labels` must have shape"):
        model.reconstruct(images, np.zeros((4, 5)))
    with pytest.raises(ValueError, match="incompatible with the layer"):
        model(images[:, :-1])


@pytest.mark.parametrize(
    ("image_shape", "classes"), [((20, 18, 1), 2), ((28, 28, 1), 10), ((40, 44, 3), 30)]
)
@pytest.mark.parametrize("variant", ["small", "paper"])
def test_lengths_of_an_untrained_network(image_shape, classes, variant):
    settings = {**models.CapsNet.variants[variant], "decoder_units": None}
    if variant == "paper":
        settings["filters"] = 64  # of the first convolution: they change nothing here
    model = models.CapsNet(image_shape, classes, **settings)
    images, _ = random_images(3, image_shape)
    lengths = keras.ops.convert_to_numpy(model(images)["scores"])
    assert 0.1 < lengths.mean() < 0.6
