import warnings

import keras
import numpy as np
import pytest
from helpers import close, random_images, small_capsnet

from keras_capsules import models


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


@pytest.mark.parametrize("objects", [0, 4])
def test_bad_objects(objects):
    with pytest.raises(ValueError, match="objects"):
        small_capsnet(objects=objects)


def test_the_parts_of_the_loss_have_metrics_of_their_own():
    model = small_capsnet(reconstruction_weight=2.0)
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
