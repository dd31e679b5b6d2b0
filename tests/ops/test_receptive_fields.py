import keras
import numpy as np
import pytest

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
