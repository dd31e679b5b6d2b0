import keras
import numpy as np
import pytest

from keras_capsules import datasets

NOTHING = {"max_rotation": 0.0, "max_squeeze": 0.0, "erased": 0}
BAR = np.zeros((28, 28, 1), "float32")
BAR[13:15, 6:22] = 1.0


def distorted(image=BAR, count=200, seed=0, **settings):
    images = np.stack([image] * count)
    data = datasets.DistortedImages(
        (images, np.arange(count)), count, seed=seed, **{**NOTHING, **settings}
    )
    found, labels = data[0]
    assert sorted(keras.ops.convert_to_numpy(labels)) == list(range(count))
    return keras.ops.convert_to_numpy(found), data


def angles(images):
    """Of the long axis of each image, in degrees, clockwise."""
    y, x = np.mgrid[:28, :28]
    found = []
    for image in images[..., 0]:
        (xx, xy), (_, yy) = np.cov(x.ravel(), y.ravel(), aweights=image.ravel())
        found.append(np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)))
    return np.array(found)


def test_images_are_shifted_as_far_as_nothing_is_cut_off():
    images, _ = distorted()
    np.testing.assert_allclose(images.sum((1, 2, 3)), BAR.sum(), rtol=1e-4)
    rows = images[..., 0].max(2).argmax(1)
    columns = images[..., 0].max(1).argmax(1)
    assert rows.min() >= 0 and rows.max() <= 26
    assert rows.min() < 8 < 18 < rows.max()
    assert columns.min() < 4 < 8 < columns.max() <= 12


def test_every_second_image_is_rotated_and_none_too_far():
    found = np.abs(angles(distorted(max_rotation=20.0)[0]))
    assert 60 < (found > 0.5).sum() < 130
    assert 15.0 < found.max() < 20.5


def test_squeezed_images_lose_width_alone():
    images, _ = distorted(max_squeeze=0.25)
    wide = (images > 0.5).any((1, 3)).sum(1)
    assert wide.max() <= 16 and 11 <= wide.min() < 14
    # Half a row more on each side is what interpolation may add.
    assert ((images > 0.5).any((2, 3)).sum(1) == 2).all()


def test_a_square_is_erased_inside():
    images, _ = distorted(np.ones((28, 28, 1), "float32"), erased=4)
    black = images[..., 0] == 0.0
    assert (black.sum((1, 2)) == 16).all()
    rows, columns = black.any(2), black.any(1)
    assert (rows.sum(1) == 4).all() and (columns.sum(1) == 4).all()
    for places in (rows, columns):
        assert places.argmax(1).min() == 4 and places.argmax(1).max() == 20


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16"])
def test_images_of_other_dtypes(dtype):
    images, _ = distorted((255 * BAR).astype(dtype), 8, erased=np.int64(2))
    assert images.dtype == "float32" and images.max() == 255.0


def test_black_images_stay_black():
    images, _ = distorted(0.0 * BAR, max_rotation=30.0, max_squeeze=0.2, erased=4)
    assert not images.any()


def test_distortions_change_with_the_epoch_and_follow_the_seed():
    first, data = distorted(max_rotation=30.0, erased=4)
    again, _ = distorted(max_rotation=30.0, erased=4)
    other, _ = distorted(max_rotation=30.0, erased=4, seed=1)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    data.on_epoch_end()
    assert (first != keras.ops.convert_to_numpy(data[0][0])).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_rotation", -1.0), ("max_squeeze", 1.0), ("erased", 10), ("erased", -1)],
)
def test_bad_arguments(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        datasets.DistortedImages((BAR[None], np.zeros(1)), 1, **{name: value})
