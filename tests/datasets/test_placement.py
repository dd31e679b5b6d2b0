import numpy as np
import pytest
import tensorflow as tf
from helpers import all_examples

from keras_capsules import datasets
from keras_capsules.datasets.placement import affine

IMAGE = np.zeros((9, 11, 2), "float32")
IMAGE[4, 5] = 1.0
DATASET = tf.data.Dataset.from_tensors((IMAGE, 7)).repeat(200)


def places(dataset):
    images, labels = all_examples(dataset)
    assert images.shape == (200, 9, 11, 2) and (labels == 7).all()
    return np.argwhere(images[..., 0])[:, 1:]


def test_shifts_reach_every_distance_and_no_further():
    shifts = places(datasets.random_shift(DATASET, 2)) - [4, 5]
    assert len(shifts) == 200
    assert {tuple(shift) for shift in shifts} == {
        (y, x) for y in range(-2, 3) for x in range(-2, 3)
    }


@pytest.mark.parametrize("change", [datasets.random_shift, datasets.random_distortion])
def test_images_of_unknown_size_are_refused(change):
    spec = tf.TensorSpec((None, None, 1)), tf.TensorSpec((), tf.int32)
    images = tf.data.Dataset.from_generator(lambda: iter(()), output_signature=spec)
    with pytest.raises(ValueError, match="`dataset` must have shape"):
        change(images)


def test_shifts_change_with_the_epoch_and_follow_the_seed():
    def epochs(seed):
        shifted = datasets.random_shift(DATASET, 2, seed)
        return places(shifted), places(shifted)

    first, second = epochs(1)
    assert (first != second).any()
    np.testing.assert_array_equal(first, epochs(1)[0])
    assert (first != epochs(2)[0]).any()


def test_half_of_the_images_are_mirrored():
    flipped = datasets.random_flip(
        tf.data.Dataset.from_tensors((tf.roll(IMAGE, 2, axis=1), 7)).repeat(200)
    )
    columns = places(flipped)[:, 1]
    assert set(columns) == {3, 7}
    assert 60 < (columns == 3).sum() < 140


def bar(height, width):
    image = np.zeros((28, 28, 1), "float32")
    image[14 - height // 2 : 14 + height // 2, 14 - width // 2 : 14 + width // 2] = 1.0
    return tf.constant(image)


def moments(image):
    """Mass, centre (y, x) and covariance of the pixels."""
    image = image.numpy()[..., 0]
    places = np.stack(np.mgrid[: image.shape[0], : image.shape[1]], -1)
    mass = image.sum()
    centre = np.einsum("yx,yxk->k", image, places) / mass
    spread = places - centre
    return mass, centre, np.einsum("yx,yxj,yxk->jk", image, spread, spread) / mass


def test_affine_identity_keeps_the_image_in_the_middle():
    image = affine(bar(4, 16), (40, 40), 0.0, 0.0, (1.0, 1.0), (0.0, 0.0))
    expected = np.zeros((40, 40, 1))
    expected[6:34, 6:34] = bar(4, 16)
    np.testing.assert_allclose(image, expected, atol=1e-5)


def test_affine_scale():
    image = affine(bar(10, 10), (40, 40), 0.0, 0.0, (1.2, 0.8), (0.0, 0.0))
    mass, centre, ((yy, _), (_, xx)) = moments(image)
    assert mass == pytest.approx(0.96 * 100, rel=0.03)
    np.testing.assert_allclose(centre, 19.5, atol=0.01)
    assert np.sqrt(yy / xx) == pytest.approx(1.5, rel=0.05)


@pytest.mark.parametrize("angle", [-20.0, 10.0, 20.0])
def test_affine_rotation_is_clockwise(angle):
    image = affine(bar(4, 18), (40, 40), angle, 0.0, (1.0, 1.0), (0.0, 0.0))
    mass, _, ((yy, xy), (_, xx)) = moments(image)
    assert mass == pytest.approx(72.0, rel=0.05)
    # Rows count downwards: a clockwise turn takes the right end down.
    assert np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)) == pytest.approx(angle, abs=1)


@pytest.mark.parametrize("shear", [-0.2, 0.1])
def test_affine_shear_slants_a_vertical_bar(shear):
    image = affine(bar(18, 4), (40, 40), 0.0, shear, (1.0, 1.0), (0.0, 0.0))
    _, _, ((yy, xy), _) = moments(image)
    assert xy / yy == pytest.approx(shear, abs=0.01)


def test_affine_shift_goes_down_and_right():
    image = affine(bar(4, 4), (40, 40), 20.0, 0.1, (1.2, 1.2), (3.0, -5.5))
    np.testing.assert_allclose(moments(image)[1], [22.5, 14.0], atol=0.1)


@pytest.mark.usefixtures("fake_data")
@pytest.mark.parametrize("load", [datasets.multi_mnist, datasets.aff_mnist])
def test_only_training_images_change_with_the_epoch(load):
    for part, changes in zip(load(seed=3), (True, False, False), strict=True):
        first, second = all_examples(part)[0], all_examples(part)[0]
        assert (first != second).any() == changes


@pytest.mark.usefixtures("fake_data")
@pytest.mark.parametrize("load", [datasets.multi_mnist, datasets.aff_mnist])
def test_seeds_decide_the_training_images_alone(load):
    def images(seed, global_seed):
        tf.random.set_seed(global_seed)
        return [all_examples(part)[0] for part in load(seed=seed)]

    first, again, other, elsewhere = (
        images(*seeds) for seeds in ((1, 0), (1, 0), (9, 0), (1, 5))
    )
    for part in range(3):
        np.testing.assert_array_equal(first[part], again[part])
        assert (first[part] != other[part]).any() == (part == 0)
        assert (first[part] != elsewhere[part]).any() == (part == 0)
