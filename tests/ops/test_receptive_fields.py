import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules.ops import ReceptiveFields


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("kernel_size", [(3, 3), (2, 3), (3, 1)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 2)])
def test_places_are_those_of_extract_patches(kernel_size, strides, padding):
    size, types = (6, 7), 2
    fields = ReceptiveFields(size, kernel_size, strides, padding, types)
    images = 1.0 + np.arange(84, dtype="float32").reshape(1, *size, types)
    patches = keras.ops.convert_to_numpy(
        keras.ops.image.extract_patches(
            images, kernel_size, strides, padding=padding, data_format="channels_last"
        )
    )
    assert fields.grid == patches.shape[1:3]
    children = np.append(images.ravel(), [0.0] * types)[fields.children]
    np.testing.assert_array_equal(children.reshape(patches.shape), patches)
    np.testing.assert_array_equal(fields.padded, children == 0.0)


def test_sharing_counts_the_fields_of_a_child():
    fields = ReceptiveFields((1, 5), (1, 3), (1, 1), "valid", 2)
    expected = [[1, 1, 2, 2, 3, 3], [2, 2, 3, 3, 2, 2], [3, 3, 2, 2, 1, 1]]
    np.testing.assert_array_equal(fields.sharing, expected)
    assert fields.count == 12


@pytest.mark.parametrize(("competition", "of_shared"), [("image", 1.0), ("patch", 2.0)])
def test_what_is_shared_evenly_adds_up_to_the_amounts(competition, of_shared):
    fields = ReceptiveFields((1, 3), (1, 2), (1, 1), "valid", 1)  # 0 1 and 1 2
    amounts = np.array([[0.5, 0.8], [0.8, 0.2]], "float32")
    shares = fields.share_evenly(amounts, parents=4, competition=competition)
    assert tuple(shares.shape) == (2, 1, 2)
    given = 4.0 * keras.ops.convert_to_numpy(shares)[:, 0]
    np.testing.assert_allclose([given[0, 0], given[1, 1]], [0.5, 0.2], rtol=1e-6)
    np.testing.assert_allclose(given[0, 1] + given[1, 0], 0.8 * of_shared, rtol=1e-6)


def test_padding_is_shared_with_nobody():
    fields = ReceptiveFields((1, 2), (1, 2), (1, 1), "same", 1)
    shares = fields.share_evenly(np.ones((2, 2), "float32"), 2, "patch")
    close(shares[:, 0], np.where(fields.padded, 0.0, 0.5))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("padding", "SAME"),
        ("kernel_size", (5, 3)),
        ("strides", 0),
        ("size", (0, 4)),
        ("types", 0),
    ],
)
def test_bad_arguments(name, value):
    settings = {
        "size": (4, 4),
        "kernel_size": (3, 3),
        "strides": (1, 1),
        "padding": "valid",
        "types": 1,
    }
    with pytest.raises(ValueError, match=f"`{name}`"):
        ReceptiveFields(**{**settings, name: value})


def test_arguments_may_be_lists():
    fields = ReceptiveFields([4, 4], [3, 3], [1, 1], "valid", 1)
    assert fields.key == ((4, 4), (3, 3), (1, 1), "valid", 1)
