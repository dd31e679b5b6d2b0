import keras
import numpy as np
from helpers import random_images, small_capsnet, small_matrix_capsnet

from keras_capsules import plotting


def test_one_dimension_is_moved_at_a_time():
    model = small_capsnet()
    images, _ = random_images(1)
    axes = np.reshape(plotting.pose_tweaks(model, images[0], 0.25, 11).axes, (6, 11))
    outputs = model.predict(images, verbose=0)
    label = outputs["scores"].argmax(-1)
    for dimension, step in ((0, 0), (3, 5), (5, 10)):
        poses = outputs["poses"].copy()
        poses[0, label[0], dimension] += 0.05 * (step - 5)
        drawn = keras.ops.convert_to_numpy(model.decode(poses, label))
        shown = axes[dimension, step].images[0].get_array()
        np.testing.assert_allclose(shown, drawn[0, ..., 0], rtol=1e-4, atol=1e-6)
    assert axes[0, 0].get_title() == "-0.25" and axes[0, 10].get_title() == "+0.25"


def test_a_batch_of_one_and_names_of_the_classes():
    model = small_capsnet()
    images, _ = random_images(1)
    figure = plotting.pose_tweaks(model, images, steps=1, class_names=["a", "b", "c"])
    assert len(figure.axes) == 6
    label = model.predict(images, verbose=0)["scores"].argmax()
    assert f"Reconstructions of {'abc'[label]};" in figure.get_suptitle()


def test_every_number_of_a_matrix_is_moved():
    model = small_matrix_capsnet(decoder_units=(8,))
    images, _ = random_images(1, model.image_shape)
    drawn = [
        axis.images[0].get_array()
        for axis in plotting.pose_tweaks(model, images[0], 0.25, 3).axes
    ]
    assert len(drawn) == 16 * 3
    outputs = model.predict(images, verbose=0)
    label = outputs["scores"].argmax(-1)
    poses = outputs["poses"].copy()
    poses[0, label[0], 1, 2] += 0.25
    expected = keras.ops.convert_to_numpy(model.decode(poses, label))
    np.testing.assert_allclose(drawn[6 * 3 + 2], expected[0, ..., 0], rtol=1e-4)
