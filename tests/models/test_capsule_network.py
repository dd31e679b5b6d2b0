import warnings

import keras
import numpy as np
import pytest
from helpers import close, random_images, small_capsnet

from keras_capsules import losses, models


def test_both_networks_are_capsule_networks():
    networks = (models.CapsNet, models.MatrixCapsNet)
    assert all(issubclass(network, models.CapsuleNetwork) for network in networks)


def test_the_most_active_capsules_are_drawn_without_labels():
    model = small_capsnet(objects=2)
    images = np.random.default_rng(0).random((4, 16, 14, 1), dtype="float32")
    outputs = model.predict(images, verbose=0)
    highest = np.argsort(outputs["scores"], -1)[:, -2:]
    labels = np.eye(3)[highest].sum(1)
    close(model.reconstruct(images), model.decode(outputs["poses"], labels), atol=1e-5)


def test_a_picture_of_one_class_shows_its_pose_alone():
    model = small_capsnet()
    poses = np.random.default_rng(0).random((2, 3, 6), dtype="float32")
    others = poses.copy()
    others[:, [0, 2]] = 9.0
    labels = np.array([1, 1])
    close(model.decode(poses, labels), model.decode(others, labels))


def test_each_object_is_compared_with_its_own_image():
    model = small_capsnet(objects=2, reconstruction_weight=2.0)
    model.run_eagerly = False
    random = np.random.default_rng(0)
    images = random.random((4, 16, 14, 1), dtype="float32")
    own = random.random((4, 2, 16, 14, 1), dtype="float32")
    # The first row has two classes, whose images stand in their order.
    labels = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 1]], "float32")
    y = {"scores": labels, "images": own}
    results = model.evaluate(images, y, verbose=0, return_dict=True)
    poses = model.predict(images, verbose=0)["poses"]
    classes = np.array([np.flatnonzero(row) for row in labels])
    error = sum(
        np.square(keras.ops.convert_to_numpy(model.decode(poses, k)) - expected).mean()
        for k, expected in zip(classes.T, own.transpose(1, 0, 2, 3, 4), strict=True)
    )
    assert results["reconstruction_loss"] == pytest.approx(error, rel=1e-4)
    loss = results["scores_loss"] + 2.0 * error
    assert results["loss"] == pytest.approx(loss, rel=1e-4)
    history = model.fit(images, y, epochs=3, validation_data=(images, y), verbose=0)
    assert history.history["loss"][-1] < history.history["loss"][0]


def test_an_object_that_is_missing_is_black():
    model = small_capsnet(objects=2)
    images, _ = random_images(2)
    own = np.zeros((2, 2, *images.shape[1:]), "float32")
    own[:, 0] = images  # of the object that is there
    poses = model.predict(images, verbose=0)["poses"]
    labels = np.array([[0, 1, 0], [0, 0, 1]], "float32")
    drawn = keras.ops.convert_to_numpy(model.decode(poses, labels))
    y = {"scores": labels, "images": own}
    results = model.evaluate(images, y, verbose=0, return_dict=True)
    assert results["reconstruction_loss"] == pytest.approx(
        np.square(drawn - images).mean(), rel=1e-4
    )


def test_of_soft_labels_the_strongest_classes_are_drawn():
    model = small_capsnet(objects=2)
    poses = model.predict(random_images(2)[0], verbose=0)["poses"]
    soft = np.array([[0.05, 0.45, 0.5], [0.4, 0.1, 0.5]], "float32")
    drawn = keras.ops.convert_to_numpy(model.decode(poses, soft))
    alone = [
        keras.ops.convert_to_numpy(model.decode(poses, np.full(2, k))) for k in range(3)
    ]
    close(drawn[0], np.maximum(0.45 * alone[1][0], 0.5 * alone[2][0]))
    close(drawn[1], np.maximum(0.4 * alone[0][1], 0.5 * alone[2][1]))


def test_images_of_objects_need_no_decoder():
    model = small_capsnet(objects=2, decoder_units=None)
    images, _ = random_images(2)
    labels = np.array([[1, 1, 0], [0, 1, 1]], "float32")
    model.fit(images, {"scores": labels, "images": images[:, None]}, verbose=0)


def test_images_of_objects_of_another_shape():
    model = small_capsnet(objects=2)
    images, _ = random_images(2)
    labels = np.array([[1, 1, 0], [0, 1, 1]], "float32")
    for fit in (model.fit, model.evaluate, model.train_on_batch):
        with pytest.raises(ValueError, match=r"`y`.*\(batch, 2, .*Received: \(2, 1, "):
            fit(images, {"scores": labels, "images": images[:, None]})
    with pytest.raises(ValueError, match=r"`y`.*\(batch, 2, "):
        model.fit(images, {"scores": labels, "images": images[:, None].tolist()})


def scaled(network):
    """Models with the network within them, from images from 0 to 255 to scores."""
    images = keras.Input((16, 14, 1))
    scores = network(keras.layers.Rescaling(1 / 255)(images))["scores"]
    functional = keras.Model(images, scores)
    functional.compile("adam", losses.MarginLoss())
    sequential = keras.Sequential(
        [keras.Input((16, 14, 1)), keras.layers.Rescaling(1 / 255), network]
    )
    sequential.compile("adam", {"scores": losses.MarginLoss(), "poses": None})
    return functional, sequential


def test_a_decoder_is_not_left_out_by_another_model():
    images, labels = random_images(4)
    functional, _ = scaled(small_capsnet())
    _, sequential = scaled(
        small_capsnet()
    )  # on JAX a step that fails takes weights away
    with pytest.raises(ValueError, match=r"decoder.*`preprocess`.*Received: "):
        functional.fit(255.0 * images, labels, verbose=0)
    with pytest.raises(ValueError, match=r"decoder.*`preprocess`.*Received: "):
        sequential.fit(255.0 * images, {"scores": labels}, verbose=0)


def test_within_another_model_a_network_is_used_and_trains_by_itself():
    network = small_capsnet()
    images, labels = random_images(4)
    functional, _ = scaled(network)
    network.fit(images, labels, verbose=0)
    network.train_on_batch(images, labels)
    functional.evaluate(255.0 * images, labels, verbose=0)
    scores = network.predict(images, verbose=0)["scores"]
    close(functional.predict(255.0 * images, verbose=0), scores)


def test_a_frozen_network_is_part_of_a_model_that_trains():
    network = small_capsnet()
    network.trainable = False
    images, labels = random_images(4)
    features = keras.Input((16, 14, 1))
    scores = keras.layers.Dense(3, "softmax")(network(features)["scores"])
    model = keras.Model(features, scores)
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images, labels, verbose=0)


def test_without_decoder_another_model_trains_it():
    network = small_capsnet(decoder_units=None)
    before = network.get_weights()
    images, labels = random_images(4)
    functional, _ = scaled(network)
    functional.fit(255.0 * images, labels, verbose=0)
    assert any(
        map(np.not_equal, map(np.sum, before), map(np.sum, network.get_weights()))
    )


@pytest.mark.parametrize("objects", [0, 4])
def test_bad_objects(objects):
    with pytest.raises(ValueError, match="objects"):
        small_capsnet(objects=objects)


def test_the_parts_of_the_loss_have_metrics_of_their_own():
    model = small_capsnet(reconstruction_weight=2.0)
    model.run_eagerly = False
    images, labels = random_images(7)
    history = model.fit(
        images, labels, batch_size=4, validation_data=(images, labels), verbose=0
    ).history
    for before in ("", "val_"):
        (loss,), (margin,), (error,) = (
            history[before + name]
            for name in ("loss", "scores_loss", "reconstruction_loss")
        )
        assert loss == pytest.approx(margin + 2.0 * error, rel=1e-5)
    outputs = model.predict(images, verbose=0)
    expected = float(model.loss(labels, outputs["scores"]))
    drawn = keras.ops.convert_to_numpy(model.decode(outputs["poses"], labels))
    results = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert results["scores_loss"] == pytest.approx(expected, rel=1e-4)
    error = np.square(drawn - images).mean()
    assert results["reconstruction_loss"] == pytest.approx(error, rel=1e-4)


def test_a_list_of_results_has_the_loss_and_the_metrics_of_compile():
    model = small_capsnet()
    images, labels = random_images(4)
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    results = model.evaluate(images, labels, verbose=0, return_dict=True)
    assert [loss, accuracy] == [results["loss"], results["accuracy"]]
    assert len(model.train_on_batch(images, labels)) == 2


def test_a_network_without_decoder_has_one_loss():
    model = small_capsnet(decoder_units=None)
    images, labels = random_images(4)
    history = model.fit(images, labels, verbose=0).history
    assert set(history) == {"loss", "accuracy"}


def test_images_with_values_far_above_1_give_a_warning():
    model = small_capsnet()
    images, labels = random_images(4)
    with warnings.catch_warnings(record=True) as caught:
        model.fit(images, labels, verbose=0)
    assert not [each for each in caught if "divide them" in str(each.message)]
    pixels = np.rint(255.0 * images)
    for x in (pixels, pixels.astype("uint8")):
        with pytest.warns(UserWarning, match="values up to 255: divide them by 255"):
            model.fit(x, labels, verbose=0)
    # Of a data set it shows after an epoch.
    with pytest.warns(UserWarning, match="an error of .* for a pixel: divide them"):
        model.fit(Batches(pixels, labels), verbose=0)


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.arrays


def test_more_classes_than_the_decoder_draws():
    images, _ = random_images(2)
    both = np.array([[1, 1, 0], [0, 1, 0]])
    model = small_capsnet()
    for method in (model.fit, model.evaluate, model.reconstruct):
        with pytest.raises(ValueError, match="holds rows of more than 1 classes"):
            method(images, both)
    small_capsnet(objects=2).fit(images, both, verbose=0)
    small_capsnet(decoder_units=None).fit(images, both, verbose=0)
    soft = np.array([[0.9, 0.05, 0.05], [0.5, 0.5, 0.0]])
    small_capsnet().fit(images, soft, verbose=0)


@pytest.mark.parametrize("weight", [float("nan"), -1, float("inf"), "a", None, True])
def test_bad_reconstruction_weight(weight):
    with pytest.raises(ValueError, match="`reconstruction_weight` must be a finite"):
        small_capsnet(reconstruction_weight=weight)


def test_the_format_of_images_elsewhere_does_not_matter():
    images, labels = random_images(2)
    pictures, before = [], keras.config.image_data_format()
    try:
        for data_format in ("channels_last", "channels_first"):
            keras.config.set_image_data_format(data_format)
            keras.utils.set_random_seed(0)
            model = small_capsnet(class_pose_shape=4)
            pictures.append(model.reconstruct(images, labels))
    finally:
        keras.config.set_image_data_format(before)
    close(*pictures)
