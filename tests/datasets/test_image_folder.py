import os
from pathlib import Path

import numpy as np
import pytest
from helpers import all_examples
from PIL import Image

from keras_capsules import datasets
from keras_capsules.datasets.image_folder import _split

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


@pytest.fixture
def folder(tmp_path):
    """Ten images of each colour, in the formats that are read."""
    for name, colour in COLOURS.items():
        (tmp_path / name / "more").mkdir(parents=True)
        for index in range(10):
            ending = ("png", "JPG", "webp", "gif", "bmp")[index % 5]
            image = Image.new("RGB", (20 + index, 30 - index), colour)
            image.save(
                tmp_path / name / ("more" if index > 6 else "") / f"{index}.{ending}"
            )
    return tmp_path


def test_every_class_is_in_every_part(folder):
    found = datasets.image_folder(folder, size=(8, 6))
    assert found.class_names == ("blue", "green", "red") and not found.unreadable
    total = 0
    for part in (found.train, found.validation, found.test):
        images, labels = all_examples(part)
        assert images.shape[1:] == (8, 6, 3) and images.dtype == "float32"
        assert labels.dtype == "int32" and set(labels) == {0, 1, 2}
        # Images are as bright as bytes, and belong to their labels.
        colours = np.array([*COLOURS.values()])[labels]
        np.testing.assert_allclose(images.mean((1, 2)), colours, atol=8)
        total += len(images)
    assert total == 30
    labels = all_examples(found.test)[1]
    for path, label in zip(found.test_files, labels, strict=True):
        assert path.relative_to(folder).parts[0] == found.class_names[label]
    assert len(set(np.diff(all_examples(found.train)[1]))) > 2  # the classes are mixed


@pytest.mark.parametrize(
    ("images", "set_aside"), [(20, 3), (67, 10), (500, 75), (1_000, 150)]
)
def test_the_same_share_of_every_class_is_set_aside(images, set_aside):
    paths = [Path(f"class/{index}.png") for index in range(images)]
    parts = _split(paths, Path())
    assert len(parts["test"]) == len(parts["validation"]) == set_aside
    assert {*parts["train"], *parts["validation"], *parts["test"]} == {*paths}


def test_most_files_stay_in_their_part_if_others_are_added():
    paths = [Path(f"class/{index}.png") for index in range(1_000)]
    parts = _split(paths, Path())
    for name, found in _split(paths[:500], Path()).items():
        assert len({*found} & {*parts[name]}) > 0.9 * len(found)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_no_part_of_a_small_class_is_empty(count):
    for start in range(40):
        paths = [Path(f"{start + index}.png") for index in range(count)]
        parts = _split(paths, Path())
        assert all(parts.values()) and sum(map(len, parts.values())) == count


def test_what_can_not_be_read_is_named_and_other_files_are_ignored(folder):
    broken = folder / "red" / "broken.png"
    broken.write_bytes((folder / "red" / "0.png").read_bytes()[:40])
    (folder / "red" / "notes.txt").write_text("red")
    (folder / "red" / ".hidden.png").write_bytes(b"")
    (folder / "red" / "more.png").mkdir()
    for name in (".cache", "red/.cache"):
        (folder / name).mkdir()
        Image.new("L", (4, 4)).save(folder / name / "copy.png")
    found = datasets.image_folder(folder, 4)
    assert list(found.unreadable) == [broken] and found.unreadable[broken]
    assert len(found.train) + len(found.validation) + len(found.test) == 30


def test_names_need_not_be_utf_8(folder):
    name = os.fsdecode(b"caf\xe9.png")
    files = datasets.image_files(folder)
    try:
        files[0].rename(files[0].with_name(name))
    except OSError:
        pytest.skip("this file system has no such names")
    found = datasets.image_folder(folder, 4)
    assert len(found.train) + len(found.validation) + len(found.test) == len(files)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "I;16"])
def test_any_mode_is_read(tmp_path, mode):
    grey = Image.fromarray(np.full((9, 9), 0, "uint8"))
    if mode == "I;16":
        image = Image.fromarray(np.full((9, 9), 200 * 256, "uint16"))
    else:
        image = grey.convert("RGB").convert(mode)
    image.save(tmp_path / "image.tif")
    found = datasets.read_image(tmp_path / "image.tif", 4)
    assert found.shape == (4, 4, 3) and found.dtype == "uint8"
    np.testing.assert_allclose(found, 200 if mode == "I;16" else 0, atol=2)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_modes_without_a_range_are_refused(tmp_path, mode):
    Image.new(mode, (5, 5)).save(tmp_path / "image.tif")
    with pytest.raises(ValueError, match=f"mode {mode} have no known range"):
        datasets.read_image(tmp_path / "image.tif", 5)


def test_what_is_transparent_becomes_white(tmp_path):
    Image.new("RGBA", (5, 5), (255, 0, 0, 0)).save(tmp_path / "image.png")
    assert datasets.read_image(tmp_path / "image.png", 5).min() == 255


def test_a_transparent_grey_of_16_bits_becomes_white(tmp_path):
    values = np.full((4, 8), 60_000, "uint16")
    values[:, :4] = 1000
    image = Image.fromarray(values)
    image.save(tmp_path / "image.png", transparency=1000)
    found = datasets.read_image(tmp_path / "image.png", (4, 8))
    assert found[:, 0].min() == 255 and found[:, 7].max() == 60_000 >> 8


def test_images_are_cropped_from_the_middle_and_turned(tmp_path):
    pixels = np.zeros((10, 30, 3), "uint8")
    pixels[:, 10:20] = 255
    image = Image.fromarray(pixels)
    image.save(tmp_path / "image.png")
    assert datasets.read_image(tmp_path / "image.png", 10)[:, 1:9].min() > 200
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "image.jpg", exif=exif, quality=100)
    found = datasets.read_image(tmp_path / "image.jpg", (30, 10))
    assert found[12:18].min() > 150 and found[:8].max() < 100


def test_bad_folders(folder):
    with pytest.raises(ValueError, match=r"must be a folder\. Received: .*nowhere"):
        datasets.image_folder(folder / "nowhere")
    with pytest.raises(ValueError, match=r"subfolders \['more'\]"):
        datasets.image_folder(folder / "red")
    for path in list((folder / "red").rglob("*.*"))[2:]:
        path.unlink()
    with pytest.raises(ValueError, match=r"Received: 2 that can be read in .*/red"):
        datasets.image_folder(folder)
    with pytest.raises(ValueError, match="`size`"):
        datasets.image_folder(folder, size=0)
