import numpy as np
import pytest
import tensorflow as tf
from helpers import all_examples

from keras_capsules import datasets
from keras_capsules.datasets.eth80 import CATEGORIES, load_eth80
from keras_capsules.datasets.photographs import for_testing

NUMBERS = (1, 2, 3, 5, 6, 7, 9, 11, 12, 14)  # as the cars of ETH-80 have them
VIEWS = ((90, 0), (90, 338), (66, 27), (0, 0))  # polar angles and azimuths


def picture(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(tf.io.encode_png(pixels).numpy())


def write(folder, numbers):
    """Pictures of one colour: its category, the number of its object, its view."""
    for label, category in enumerate(CATEGORIES):
        for number in numbers:
            for view, (polar, azimuth) in enumerate(VIEWS):
                name = f"{category}/{category}{number}-{polar:03}-{azimuth:03}.png"
                colour = np.array([label, number, view], "uint8")
                picture(folder / name, np.broadcast_to(colour, (4, 4, 3)))
    return folder


@pytest.fixture(scope="module")
def ten(tmp_path_factory):
    return write(tmp_path_factory.mktemp("eth80"), NUMBERS)


@pytest.fixture
def two(tmp_path):
    return write(tmp_path, (2, 10))


def test_every_picture_has_what_its_name_says(ten):
    parts = load_eth80(ten)
    photographs = [np.concatenate(column) for column in zip(*parts, strict=True)]
    images, labels, elevations, azimuths, instances = photographs
    assert images.shape == (320, 48, 48, 3) and images.dtype == "uint8"
    assert labels.dtype == "int32"
    assert (images == images[:, :1, :1]).all()
    colours = images[:, 0, 0]
    assert len(np.unique(colours, axis=0)) == 320
    np.testing.assert_array_equal(labels, colours[:, 0])
    np.testing.assert_array_equal(np.array(NUMBERS)[instances], colours[:, 1])
    polar, azimuth = np.array(VIEWS)[colours[:, 2]].T
    np.testing.assert_array_equal(elevations, 90 - polar)
    np.testing.assert_array_equal(azimuths, azimuth)


@pytest.mark.parametrize("test_objects", [(6, 7, 8, 9, 10), (1,), [10, 4]])
def test_test_objects_are_those_of_no_training_photograph(ten, test_objects):
    train, test = load_eth80(ten, test_objects)
    expected = {NUMBERS[position - 1] for position in test_objects}
    for photographs, numbers in ((test, expected), (train, {*NUMBERS} - expected)):
        of_category = 4 * len(numbers)
        assert np.bincount(photographs.labels).tolist() == [of_category] * 8
        for label in range(8):
            images = photographs.images[photographs.labels == label]
            assert set(images[:, 0, 0, 1]) == numbers


def test_half_of_the_objects_train_unless_others_are_asked_for(ten):
    assert set(load_eth80(ten)[0].instances) == {0, 1, 2, 3, 4}
    parts = datasets.eth80(ten)
    assert [len(part) for part in parts] == [144, 16, 160]
    parts = datasets.eth80(ten, test_objects=(3,), crops=2)
    assert [len(part) for part in parts] == [260, 28, 32]
    shapes = [(32, 32, 3), (32, 32, 3), (4, 32, 32, 3)]
    for part, shape in zip(parts, shapes, strict=True):
        images, labels = all_examples(part)
        assert images.shape[1:] == shape and images.dtype == "float32"
        assert labels.dtype == "int32" and set(labels) == set(range(8))


def test_training_is_shuffled_and_always_the_same(ten):
    first, second = (load_eth80(ten)[0] for _ in range(2))
    for column, again in zip(first, second, strict=True):
        np.testing.assert_array_equal(column, again)
    # As the files are sorted there would be 8 runs of a category each.
    for column in (first.labels, first.instances, first.azimuths):
        assert np.count_nonzero(np.diff(column)) > 60
    validation = all_examples(datasets.eth80(ten).validation)[1]
    np.testing.assert_array_equal(validation, first.labels[-16:])


def test_the_pipeline_is_that_of_smallnorb(two):
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), "uint8")
    for category in CATEGORIES:
        for file in (two / category).iterdir():
            picture(file, noise)
    _, test = load_eth80(two, (1,))
    expected = all_examples(for_testing(test, crops=3))[0]
    assert expected.std() > 0.5
    found = [datasets.eth80(two, (1,), 3, seed) for seed in (1, 2)]
    for parts in found:
        np.testing.assert_array_equal(all_examples(parts.test)[0], expected)
    first, second = (all_examples(parts.train)[0] for parts in found)
    assert (first != second).any()


def test_pictures_of_other_sizes_and_modes(two):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (48, 48, 1), "uint8")
    colour = rng.integers(0, 256, (48, 48, 3), "uint8")
    opaque = np.concatenate([colour, np.full_like(grey, 255)], axis=-1)
    picture(two / "car" / "car2-000-000.png", grey)
    picture(two / "cow" / "cow2-000-000.png", opaque)
    picture(two / "cup" / "cup2-000-000.png", 257 * colour.astype("uint16"))
    large = colour.repeat(5, axis=0).repeat(5, axis=1)
    picture(two / "dog" / "dog2-000-000.png", large)
    _, test = load_eth80(two, (1,))
    from_above = test.take(test.elevations == 90)
    found = dict(zip(from_above.labels, from_above.images, strict=True))
    np.testing.assert_array_equal(found[1], grey.repeat(3, axis=-1))
    for label in (2, 3, 4):
        np.testing.assert_array_equal(found[label], colour)


def test_other_files_and_folders_are_ignored(two):
    for name in (
        "README.md",
        "zebra/zebra1-000-000.png",
        "car/maps/car3-000-000.png",
        "car/car3-000-000-map.png",
        "car/._car3-000-000.png",
        "car/cow3-000-000.png",
        "car/car3-000-000.jpg",
        "car/car3-000-000.png.png",
        "car/car3.png",
    ):
        (two / name).parent.mkdir(exist_ok=True)
        (two / name).write_text("no picture")
    assert [len(part.labels) for part in load_eth80(two, (2,))] == [32, 32]


@pytest.mark.parametrize("name", [None, "missing", "file"])
def test_what_is_no_folder(tmp_path, name):
    (tmp_path / "file").write_text("kept")
    data_dir = name and tmp_path / name
    message = rf"`data_dir`.*apple, car, .*Received: data_dir={data_dir} \(no folder\)"
    with pytest.raises(ValueError, match=message):
        datasets.eth80(data_dir)


def test_categories_without_pictures(two):
    for category in ("cow", "tomato"):
        for file in (two / category).iterdir():
            file.unlink()
    (two / "cow").rmdir()
    message = rf"`data_dir`.*data_dir={two} \(no pictures of cow, tomato\)"
    with pytest.raises(ValueError, match=message):
        datasets.eth80(two, (1,))


@pytest.mark.parametrize("damage", [b"", b"no picture", "half"])
def test_a_picture_that_can_not_be_read(two, damage):
    file = two / "pear" / "pear10-066-027.png"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage == "half" else damage)
    message = rf"`data_dir`.*data_dir={two} \({file} can't be read\)"
    with pytest.raises(ValueError, match=message):
        datasets.eth80(two, (1,))


@pytest.mark.parametrize(
    "test_objects", [(), (0,), (11,), (1, 2, 1), tuple(range(1, 11)), 7, (1.0,)]
)
def test_objects_that_can_not_test(ten, test_objects):
    with pytest.raises(ValueError, match=r"`test_objects` must be .*Received: test_"):
        datasets.eth80(ten, test_objects)


def test_every_category_has_the_objects_that_test(two):
    picture(two / "car" / "car11-000-000.png", np.zeros((4, 4, 3), "uint8"))
    message = r"`test_objects`.* 1 to 2, .*Received: test_objects=\(3,\)"
    with pytest.raises(ValueError, match=message):
        datasets.eth80(two, (3,))


def test_crops_are_checked_before_the_folder():
    with pytest.raises(ValueError, match="Received: crops=0"):
        datasets.eth80(None, crops=0)
