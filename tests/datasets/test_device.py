import keras
import numpy as np
import pytest
from helpers import close

from keras_capsules import datasets
from keras_capsules.datasets.device import shifted

LABELS = np.arange(50) % 10
# Squares whose brightness is the class.
DIGITS = np.zeros((50, 28, 28, 1), "float32")
DIGITS[:, 4:24, 4:24] = (LABELS + 1.0)[:, None, None, None] / 20.0


def epoch(data):
    batches = [data[index] for index in range(len(data))]
    parts = zip(*batches, strict=True)
    return [np.concatenate([keras.ops.convert_to_numpy(x) for x in p]) for p in parts]


@pytest.mark.parametrize("size", [(5, 4), (9, 8)])
def test_an_image_is_placed_on_a_canvas(size):
    images = np.random.default_rng(0).random((9, 5, 4, 2), "float32")
    shifts = np.stack(np.meshgrid([-2, 0, 2], [-1, 0, 9]), -1).reshape(9, 2)
    canvas = np.zeros((9, 5 + 40, 4 + 40, 2))
    for image, to, (down, right) in zip(images, canvas, shifts, strict=True):
        to[20 + down : 25 + down, 20 + right : 24 + right] = image
    top, left = 20 - (size[0] - 5) // 2, 20 - (size[1] - 4) // 2
    expected = canvas[:, top : top + size[0], left : left + size[1]]
    moved = shifted(keras.ops.convert_to_tensor(images), shifts.astype("int32"), size)
    close(moved, expected)


def test_an_epoch_has_every_image_once():
    numbers = np.arange(50)
    data = datasets.ShiftedImages((DIGITS, numbers), batch_size=10)
    images, labels = epoch(data)
    assert sorted(labels) == list(numbers) and list(labels) != list(numbers)
    assert np.allclose(images.max((1, 2, 3)), (LABELS[labels] + 1) / 20.0)
    tops = (images > 0).any((2, 3)).argmax(1)
    lefts = (images > 0).any((1, 3)).argmax(1)
    assert set(tops) == set(lefts) == {2, 3, 4, 5, 6}
    assert np.all((images > 0).sum((1, 2, 3)) == 400)


def test_epochs_differ_and_follow_the_seed():
    def two_epochs(seed):
        data = datasets.ShiftedImages((DIGITS, LABELS), batch_size=20, seed=seed)
        first = epoch(data)
        data.on_epoch_end()
        return first, epoch(data)

    (first, second), again = two_epochs(1), two_epochs(1)
    assert len(first[0]) == 40  # what is left over is left out
    assert not np.array_equal(first[0], second[0])
    assert np.array_equal(first[0], again[0][0])
    assert np.array_equal(second[0], again[1][0])
    assert not np.array_equal(first[0], two_epochs(2)[0][0])


def test_two_different_digits_and_their_maximum():
    data = datasets.OverlaidImages((DIGITS, LABELS), batch_size=10)
    seen = np.zeros(10)
    images, labels = epoch(data)
    assert images.shape == (50, 36, 36, 1) and labels.shape == (50, 10)
    assert set(np.unique(labels)) == {0.0, 1.0} and (labels.sum(1) == 2).all()
    for image, label in zip(images, labels, strict=True):
        dim, bright = (np.flatnonzero(label) + 1) / 20.0
        assert np.isclose(image[..., None], [0.0, dim, bright]).any(-1).all()
        # The brighter square lies on top, 20×20, at most 4 pixels from the centre.
        rows, columns = np.nonzero(np.isclose(image[..., 0], bright))
        assert len(rows) == 400
        assert 4 <= rows.min() <= 12 and 4 <= columns.min() <= 12
        seen += label
    # Every digit is the first of one pair.
    assert (seen >= 5).all()


def test_each_image_alone():
    data = datasets.OverlaidImages((DIGITS, LABELS), batch_size=10, own_images=True)
    images, labels = data[0]
    own = keras.ops.convert_to_numpy(labels["images"])
    assert own.shape == (10, 2, 36, 36, 1)
    np.testing.assert_array_equal(own.max(1), keras.ops.convert_to_numpy(images))
    scores = keras.ops.convert_to_numpy(labels["scores"])
    classes = [np.flatnonzero(row) for row in scores]
    np.testing.assert_allclose(own.max((2, 3, 4)), (np.array(classes) + 1) / 20.0)


def test_a_network_is_fit():
    tf_data = pytest.importorskip("tensorflow").data.Dataset
    data = datasets.ShiftedImages(
        tf_data.from_tensor_slices((DIGITS, LABELS)), batch_size=25
    )
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # PyTorch takes one step at a time.
    steps = 1 if keras.backend.backend() == "torch" else 2
    model.compile("adam", loss, steps_per_execution=steps)
    history = model.fit(data, epochs=3, verbose=0).history["loss"]
    assert history[2] < history[0] and int(model.optimizer.iterations) == 6


@pytest.mark.parametrize(
    ("form", "arguments", "message"),
    [
        ("ShiftedImages", {"dataset": (DIGITS, LABELS[1:])}, "50 images and 49 labels"),
        ("OverlaidImages", {"dataset": (DIGITS, LABELS[1:])}, "50 images and 49"),
        ("ShiftedImages", {"batch_size": 51}, "50. Received: batch_size=51"),
        ("ShiftedImages", {"max_shift": -1}, "Received: max_shift=-1"),
        ("OverlaidImages", {"max_shift": 1.5}, "Received: max_shift=1.5"),
        ("OverlaidImages", {"own_images": 1}, "Received: own_images=1"),
        ("OverlaidImages", {"dataset": (DIGITS, np.full(50, 3))}, r"two.*\[3\]"),
        ("OverlaidImages", {"dataset": (DIGITS, np.eye(50))}, "integer labels"),
        ("ShiftedImages", {"dataset": (DIGITS[..., 0], LABELS)}, r"\(50, 28, 28\)"),
        ("OverlaidImages", {"dataset": (DIGITS[:0], LABELS[:0])}, r"shape \(0, 28"),
        ("ShiftedImages", {"dataset": [DIGITS, LABELS]}, "tuple of arrays or a tf"),
        ("OverlaidImages", {"classes": 9}, "label 9, expected integers from 0 to 8"),
    ],
)
def test_wrong_arguments(form, arguments, message):
    arguments = {"dataset": (DIGITS, LABELS), "batch_size": 10, **arguments}
    with pytest.raises(ValueError, match=message):
        getattr(datasets, form)(**arguments)


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: x.repeat(),
        lambda x: x.batch(7),
        lambda x: x.filter(lambda _, y: y < 5),
    ],
)
def test_data_sets_that_are_no_single_examples(changed):
    tf_data = pytest.importorskip("tensorflow").data.Dataset
    dataset = changed(tf_data.from_tensor_slices((DIGITS, LABELS)))
    with pytest.raises(ValueError, match="`dataset`"):
        datasets.ShiftedImages(dataset, batch_size=10)


def test_there_are_as_many_batches_as_it_says():
    data = datasets.ShiftedImages((DIGITS, LABELS), batch_size=20, max_shift=0)
    assert len(list(data)) == len(data) == 2
    with pytest.raises(IndexError, match=r"2 batches\. Received: index=2"):
        data[2]


def test_labels_are_as_wide_as_there_are_classes():
    data = datasets.OverlaidImages((DIGITS, LABELS), batch_size=10, classes=12)
    assert data[0][1].shape == (10, 12)
