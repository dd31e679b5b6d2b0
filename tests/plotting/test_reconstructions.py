import keras
import numpy as np
from helpers import random_images, small_capsnet

from keras_capsules import plotting


def test_originals_over_reconstructions():
    model = small_capsnet()
    images, _ = random_images(4)
    predictions = model.predict(images, verbose=0)["scores"].argmax(-1)
    labels = predictions.copy()
    labels[1] = (labels[1] + 1) % 3
    axes = plotting.reconstructions(model, images, labels).axes
    drawn = keras.ops.convert_to_numpy(model.reconstruct(images))
    for column in range(4):
        top, bottom = axes[column], axes[4 + column]
        np.testing.assert_allclose(top.images[0].get_array(), images[column, ..., 0])
        shown = bottom.images[0].get_array()
        np.testing.assert_allclose(shown, drawn[column, ..., 0], rtol=1e-4)
        assert top.get_title() == f"label {labels[column]}"
        assert bottom.get_title() == f"predicted {predictions[column]}"
        assert bottom.title.get_color() == ("red" if column == 1 else "black")


def test_long_names_and_titles_fit():
    model = small_capsnet()
    images, labels = random_images(1)
    names = ["four-legged $animal", "human $figure", "pickup truck"]
    figure = plotting.reconstructions(model, images, labels, class_names=names)
    figure.draw_without_rendering()
    for text in (figure._suptitle, *(axis.title for axis in figure.axes)):
        box = text.get_window_extent()
        assert box.x0 >= 0.0 and box.x1 <= figure.bbox.x1


def test_names_of_the_classes():
    model = small_capsnet()
    images, _ = random_images(2)
    predictions = model.predict(images, verbose=0)["scores"].argmax(-1)
    names = ["cat", "dog", "cow"]
    one_hot = np.eye(3)[predictions]
    axes = plotting.reconstructions(model, images, one_hot, class_names=names).axes
    for column, prediction in enumerate(predictions):
        assert axes[column].get_title() == f"label {names[prediction]}"
        assert axes[2 + column].get_title() == f"predicted {names[prediction]}"
        assert axes[2 + column].title.get_color() == "black"
