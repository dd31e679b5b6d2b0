import keras
import numpy as np
import pytest
from helpers import (
    close,
    random_images,
    small_capsnet,
    small_efficient_capsnet,
)

from keras_capsules import losses, models, routing
from keras_capsules.models import vector_capsule_network

IMAGE_SHAPE = (6, 5, 2)


@keras.saving.register_keras_serializable(package="tests")
class Pixels(models.VectorCapsuleNetwork):
    """A capsule for each pixel, whose pose is made of its channels alone."""

    def __init__(
        self,
        input_shape=IMAGE_SHAPE,
        classes=3,
        units=4,
        class_pose_shape=5,
        routing="dynamic",
        decoder_units=(8,),
        reconstruction_weight=0.392,
        objects=1,
        **kwargs,
    ):
        super().__init__(input_shape, classes, reconstruction_weight, objects, **kwargs)
        self.units = units
        self.dense = keras.layers.Dense(units, "tanh", dtype=self.dtype_policy)
        self.scale = keras.layers.Rescaling(0.5, dtype=self.dtype_policy)
        self.add_class_capsules(class_pose_shape, routing, decoder_units)

    @property
    def lower_layers(self):
        return self.dense, self.scale

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def pixels(**kwargs):
    model = Pixels(**kwargs)
    model.compile(
        keras.optimizers.Adam(0.03), loss=losses.MarginLoss(), metrics=["accuracy"]
    )
    return model


def test_networks_whose_class_capsules_are_vectors():
    for network in (models.CapsNet, models.EfficientCapsNet):
        assert issubclass(network, models.VectorCapsuleNetwork)
    assert not issubclass(models.MatrixCapsNet, models.VectorCapsuleNetwork)
    assert issubclass(models.VectorCapsuleNetwork, models.CapsuleNetwork)


def test_all_weights_are_there_before_it_is_called():
    model = pixels()
    shapes = [tuple(weight.shape) for weight in model.trainable_weights]
    dense, capsules = [(2, 4), (4,)], [(30, 3, 4, 5)]
    decoder = [(15, 8), (8,), (8, 60), (60,)]
    assert model.built and sorted(shapes) == sorted(dense + capsules + decoder)
    before = len(model.weights)
    model.predict(random_images(2, IMAGE_SHAPE)[0], verbose=0)
    assert len(model.weights) == before


def test_lower_layers_make_the_primary_capsules_in_their_order():
    model = pixels()
    images, _ = random_images(4, IMAGE_SHAPE)
    kernel, bias = model.dense.get_weights()
    capsules = model.lowest_capsules(images)
    close(capsules, 0.5 * np.tanh(images @ kernel + bias))
    poses = model.predict(images, verbose=0)["poses"]
    close(model.class_capsules(capsules), poses, atol=1e-5)


def test_scores_are_the_lengths_of_the_poses():
    model = pixels()
    images, _ = random_images(4, IMAGE_SHAPE)
    outputs = model.predict(images, verbose=0)
    shapes = model.compute_output_shape((4, *IMAGE_SHAPE))
    assert {name: outputs[name].shape for name in outputs} == shapes
    assert shapes == {"scores": (4, 3), "poses": (4, 3, 5)}
    close(outputs["scores"], np.sqrt(np.sum(outputs["poses"] ** 2, -1) + 1e-7))
    assert model.capsule_layers == (model.class_capsules,)
    assert list(model.trace(images)) == ["class_capsules"]


def test_it_learns_to_tell_images_apart_and_to_draw_them():
    model = pixels(reconstruction_weight=5.0)
    images, labels = random_images(24, IMAGE_SHAPE)
    images *= 0.1
    for image, label in zip(images, labels, strict=True):
        image[2 * label : 2 * label + 2] += 0.9
    history = model.fit(images, labels, epochs=40, batch_size=24, verbose=0).history
    for name in ("loss", "scores_loss", "reconstruction_loss"):
        assert history[name][-1] < 0.5 * history[name][0], name
    assert history["accuracy"][-1] > 0.9
    drawn = keras.ops.convert_to_numpy(model.reconstruct(images))
    assert drawn.shape == images.shape
    assert np.mean((drawn - images) ** 2) < 0.5 * images.var()


def test_the_longest_capsules_are_drawn_without_labels():
    model = pixels(objects=2)
    images, _ = random_images(4, IMAGE_SHAPE)
    outputs = model.predict(images, verbose=0)
    longest = np.eye(3)[np.argsort(outputs["scores"], -1)[:, 1:]].sum(1)
    drawn = model.decode(outputs["poses"])
    close(drawn, model.decode(outputs["poses"], longest), atol=1e-5)
    close(drawn, model.reconstruct(images), atol=1e-5)
    shortest = np.eye(3)[outputs["scores"].argmin(-1)]
    with pytest.raises(AssertionError):
        close(drawn, model.decode(outputs["poses"], shortest), atol=1e-3)


def test_scores_are_activations_where_the_routing_computes_them():
    model = pixels(routing="em")
    images, labels = random_images(4, IMAGE_SHAPE)
    model.fit(images, labels, verbose=0)
    outputs = model.predict(images, verbose=0)
    poses, activations = model.class_capsules(model.lowest_capsules(images))
    close(outputs["scores"], activations, atol=1e-5)
    close(outputs["poses"], poses, atol=1e-5)
    assert outputs["scores"].shape == (4, 3) and outputs["poses"].shape == (4, 3, 5)
    most_active = outputs["scores"].argmax(-1)
    drawn = model.decode(outputs["poses"], most_active)
    close(model.reconstruct(images), drawn, atol=1e-5)
    with pytest.raises(ValueError, match="`labels` must be given"):
        model.decode(outputs["poses"])


def test_without_decoder():
    model = pixels(decoder_units=None)
    images, labels = random_images(4, IMAGE_SHAPE)
    assert set(model.fit(images, labels, verbose=0).history) == {"loss", "accuracy"}
    poses = model.predict(images, verbose=0)["poses"]
    for labels_to_draw in (None, labels):
        with pytest.raises(ValueError, match="has no decoder"):
            model.decode(poses, labels_to_draw)


def test_config_round_trip():
    model = pixels(
        input_shape=(4, 3, 1),
        classes=2,
        units=3,
        class_pose_shape=6,
        routing=routing.DynamicRouting(5),
        decoder_units=(7, 9),
        reconstruction_weight=0.7,
        objects=2,
        dtype="mixed_bfloat16",
    )
    config = model.get_config()
    assert config["class_pose_shape"] == 6 and config["objects"] == 2
    again = Pixels.from_config(config)
    assert again.get_config() == config
    assert again.routing.iterations == 5
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_saved_and_loaded(tmp_path, policy):
    model = pixels(dtype=policy)
    images, labels = random_images(4, IMAGE_SHAPE)
    model.fit(images, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for name, value in model(images).items():
        close(again(images)[name], value)
    close(again.reconstruct(images), model.reconstruct(images))
    compute = keras.DTypePolicy(policy).compute_dtype
    for layer in (*again.lower_layers, again.class_capsules):
        assert layer.compute_dtype == compute
    assert again.length.compute_dtype == "float32"
    for name, dtype in (("scores", "float32"), ("poses", compute)):
        found = again(images)[name].dtype
        assert keras.backend.standardize_dtype(found) == dtype


def test_frozen():
    model = pixels(trainable=False)
    assert not model.trainable_weights and not model.dense.trainable
    again = Pixels.from_config(model.get_config())
    assert not again.trainable_weights and not again.scale.trainable


def test_a_subclass_must_name_its_lower_layers():
    class Nothing(models.VectorCapsuleNetwork):
        def __init__(self):
            super().__init__(IMAGE_SHAPE, 3)
            self.add_class_capsules(5, "dynamic", None)

    with pytest.raises(NotImplementedError):
        Nothing()


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("input_shape", {"input_shape": (5, 4)}),
        ("classes", {"classes": 0}),
        ("class_pose_shape", {"class_pose_shape": 0}),
        ("class_pose_shape", {"class_pose_shape": (4, 4)}),
        ("routing", {"routing": "no"}),
        ("decoder_units", {"decoder_units": 8}),
        ("objects", {"objects": 4}),
        ("reconstruction_weight", {"reconstruction_weight": -1}),
    ],
)
def test_bad_argument(name, settings):
    with pytest.raises(ValueError, match=f"`{name}`"):
        pixels(**settings)


def test_capsnet_goes_through_its_lower_layers():
    model = small_capsnet()
    assert model.lower_layers == (model.conv, model.primary)
    images, _ = random_images(2)
    capsules = model.lowest_capsules(images)
    close(capsules, model.primary(model.conv(images)))


@pytest.mark.parametrize("network", [small_capsnet, small_efficient_capsnet])
def test_many_parameters_are_named(network, monkeypatch):
    monkeypatch.setattr(vector_capsule_network, "_MANY", 1_000)
    decoder = (
        r"0 million parameters for images of .*decoder's, which decoder_units=None"
    )
    with pytest.warns(UserWarning, match=decoder):
        network()
    with pytest.warns(
        UserWarning, match=r"\)\. models.CapsuleClassifier has a few mill"
    ):
        network(decoder_units=None)
