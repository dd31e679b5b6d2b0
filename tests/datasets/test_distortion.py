import numpy as np
import pytest
import tensorflow as tf
from helpers import all_examples

from keras_capsules import datasets

COUNT = 300
HEIGHT, WIDTH = 8, 16
NOTHING = {"max_rotation": 0.0, "max_squeeze": 0.0, "erased": 0}


def rectangle(top=10, left=6, shape=(28, 28, 1)):
    image = np.zeros(shape, "float32")
    image[top : top + HEIGHT, left : left + WIDTH] = 1.0
    return image


def distorted(image, count=COUNT, **settings):
    """The image, each time distorted, without its last axis."""
    dataset = tf.data.Dataset.from_tensors((image, 7)).repeat(count)
    images, labels = all_examples(datasets.random_distortion(dataset, **settings))
    assert images.shape == (count, *image.shape) and images.dtype == "float32"
    assert (labels == 7).all() and len(labels) == count
    assert images.min() >= 0.0 and images.max() <= 1.0 + 1e-5
    assert (images == images[..., :1]).all()  # of what is the same in each channel
    return images[..., 0]


def covariances(images):
    """Those of the places of the pixels, `(yy, xx, xy)`."""
    mass = images.sum((1, 2))
    places = np.mgrid[: images.shape[1], : images.shape[2]]
    y, x = (
        axis - (np.sum(images * axis, (1, 2)) / mass)[:, None, None] for axis in places
    )
    return tuple(
        np.sum(images * product, (1, 2)) / mass for product in (y * y, x * x, x * y)
    )


def angles(images):
    """Of the longer side of the rectangle, in degrees."""
    yy, xx, xy = covariances(images)
    return np.degrees(0.5 * np.arctan2(2.0 * xy, xx - yy))


@pytest.mark.parametrize("shape", [(28, 28, 1), (24, 30, 3)])
def test_shapes_and_labels_are_kept(shape):
    images = distorted(rectangle(shape=shape))
    assert len({image.tobytes() for image in images}) == COUNT
    labels = np.arange(20)
    pairs = (np.stack([rectangle(shape=shape)] * 20), labels)
    dataset = tf.data.Dataset.from_tensor_slices(pairs)
    found = datasets.random_distortion(dataset)
    assert found.element_spec == dataset.element_spec and len(found) == 20
    np.testing.assert_array_equal(all_examples(found)[1], labels)


def test_nothing_is_done_without_need():
    full = np.ones((12, 14, 2), "float32")
    assert (distorted(full, **NOTHING) == 1.0).all()


@pytest.mark.parametrize("largest", [10.0, 30.0])
def test_half_of_the_images_are_rotated_at_most_as_far_as_asked(largest):
    images = distorted(rectangle(), **{**NOTHING, "max_rotation": largest})
    # The grey pixels of a rotated edge.
    rotated = ((images > 1e-4) & (images < 0.999)).any((1, 2))
    assert 0.4 < rotated.mean() < 0.6
    found = angles(images)
    np.testing.assert_allclose(found[~rotated], 0.0, atol=0.5)
    assert abs(found).max() < largest + 1.0
    assert found.max() > 0.6 * largest and found.min() < -0.6 * largest
    # Small ones are more frequent: of the normal distribution 68 % are within a third.
    assert 0.5 < (abs(found[rotated]) < largest / 3).mean() < 0.8
    # Nothing else happens to them.
    np.testing.assert_allclose(images.sum((1, 2)), HEIGHT * WIDTH, rtol=0.05)


@pytest.mark.parametrize(("top", "left"), [(10, 6), (3, 9), (0, 12), (20, 0)])
def test_shifts_cut_nothing_off(top, left):
    # Of so many some would go too far, if they could.
    images = distorted(rectangle(top, left), 2000, **NOTHING)
    found = set()
    for image in images:
        y, x = np.argwhere(image)[0]
        # It is whole, and nothing comes in on the other side.
        np.testing.assert_array_equal(image, rectangle(y, x)[..., 0])
        found.add((y, x))
    for places, place, most in zip(
        zip(*found, strict=True), (top, left), (28 - HEIGHT, 28 - WIDTH), strict=True
    ):
        # Both ways and far, but not where there is no room.
        assert min(places) <= 0.4 * place
        assert max(places) >= most - 0.4 * (most - place)
        assert len(set(places)) > 0.6 * most


def test_squeezes_narrow_the_width_alone():
    (yy,), (xx,), _ = covariances(rectangle()[None, ..., 0])
    images = distorted(rectangle(), **{**NOTHING, "max_squeeze": 0.25})
    found_yy, found_xx, _ = covariances(images)
    np.testing.assert_allclose(found_yy, yy, rtol=1e-4)
    widths = np.sqrt(found_xx / xx)
    assert 0.74 < widths.min() < 0.85 and 0.95 < widths.max() < 1.005
    assert 0.88 < widths.mean() < 0.97


@pytest.mark.parametrize("erased", [1, 4, 6])
def test_a_square_is_erased_well_inside(erased):
    height, width = 20, 30
    # There is no margin, so that nothing is shifted.
    images = distorted(
        np.ones((height, width, 2), "float32"), **{**NOTHING, "erased": erased}
    )
    tops, lefts = set(), set()
    for image in images:
        black = np.argwhere(image == 0.0)
        top, left = black[0]
        square = np.mgrid[top : top + erased, left : left + erased].reshape(2, -1).T
        np.testing.assert_array_equal(black, square)
        assert image.sum() == height * width - erased**2
        tops.add(top)
        lefts.add(left)
    # It keeps as much distance from the border, and comes everywhere else.
    assert tops == set(range(erased, height - 2 * erased + 1))
    assert lefts == set(range(erased, width - 2 * erased + 1))


def test_the_largest_square_stands_in_the_middle():
    images = distorted(np.ones((9, 9, 1), "float32"), **{**NOTHING, "erased": 3})
    expected = np.ones((9, 9))
    expected[3:6, 3:6] = 0.0
    assert (images == expected).all()


def test_distortions_change_with_the_epoch_and_follow_the_seed():
    dataset = tf.data.Dataset.from_tensors((rectangle(), 7)).repeat(20)

    def epochs(seed):
        found = datasets.random_distortion(dataset, seed=seed)
        return all_examples(found)[0], all_examples(found)[0]

    first, second = epochs(1)
    assert (first != second).any()
    np.testing.assert_array_equal(first, epochs(1)[0])
    assert (first != epochs(2)[0]).any()


def test_a_black_image_stays_black():
    assert (distorted(np.zeros((28, 28, 1), "float32")) == 0.0).all()


def test_one_bright_pixel_stays():
    image = np.zeros((15, 12, 1), "float32")
    image[14, 0] = 1.0
    images = distorted(image, **NOTHING)
    assert (images.sum((1, 2)) == 1.0).all() and (images.max((1, 2)) == 1.0).all()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_rotation", -1.0),
        ("max_rotation", float("nan")),
        ("max_rotation", "far"),
        ("max_squeeze", -0.1),
        ("max_squeeze", 1.0),
        ("erased", -1),
        ("erased", 10),
    ],
)
def test_bad_argument(name, value):
    dataset = tf.data.Dataset.from_tensors((rectangle(), 7))
    with pytest.raises(ValueError, match=f"`{name}`"):
        datasets.random_distortion(dataset, **{name: value})


def test_batches_are_refused():
    dataset = tf.data.Dataset.from_tensors((rectangle(), 7)).batch(1)
    with pytest.raises(ValueError, match=r"`dataset` must have shape .*: \(None, "):
        datasets.random_distortion(dataset)


@pytest.mark.parametrize("erased", [2.5, "four", None])
def test_erased_must_be_an_integer(erased):
    dataset = tf.data.Dataset.from_tensors((rectangle(), 7))
    with pytest.raises(ValueError, match="`erased`"):
        datasets.random_distortion(dataset, erased=erased)
