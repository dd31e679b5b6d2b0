import numpy as np
import pytest
import scripts
from PIL import Image

drawings = scripts.module("drawings")
SIZE = (28, 28)


def centre(picture):
    mass = picture / picture.sum()
    rows, columns = (np.arange(side) for side in picture.shape)
    return mass.sum(1) @ rows, mass.sum(0) @ columns


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("ground", [0, 255])
def test_pictures_of_every_kind_become_light_on_dark(mode, ground):
    grey = np.full((6, 8), ground, "uint8")
    grey[2:4, 3:5] = 255 - ground
    found = drawings.light_on_dark(Image.fromarray(grey).convert(mode))
    assert found.shape == (6, 8) and found.dtype == np.uint8
    assert (found[2:4, 3:5] == 255).all() and found.sum() == 4 * 255


def test_what_is_transparent_is_paper():
    picture = np.zeros((5, 5, 4), "uint8")
    picture[2, 2, 3] = 255
    found = drawings.light_on_dark(Image.fromarray(picture))
    assert found[2, 2] == 255 and found.sum() == 255


@pytest.mark.parametrize("shape", [(200, 50), (30, 90), (3, 3)])
def test_a_drawing_is_scaled_and_centred(shape):
    paper = np.zeros((280, 280), "uint8")
    paper[10 : 10 + shape[0], 170 : 170 + shape[1]] = 255
    found = drawings.centred(paper, SIZE)
    assert found.shape == SIZE and found.dtype == np.uint8
    rows, columns = (np.nonzero(found.any(axis))[0] for axis in (1, 0))
    assert max(len(rows), len(columns)) == 20
    np.testing.assert_allclose(centre(found), 13.5, atol=0.5)


def test_the_mass_is_centred_and_nothing_cut_off():
    paper = np.zeros((280, 280), "uint8")
    paper[:200, 100:110] = 255
    paper[:30, 50:160] = 255  # a T, heavier above
    found = drawings.centred(paper, SIZE)
    rows = np.nonzero(found.any(1))[0]
    assert len(rows) == 20 and rows[0] > 4
    assert drawings.centred(np.zeros((280, 280), "uint8"), SIZE) is None


@pytest.mark.parametrize("shift", [-9, 0, 8])
def test_two_digits_over_each_other(shift):
    first, second = np.zeros((2, *SIZE), "uint8")
    first[5, 14], second[20, 14] = 200, 100
    both = drawings.overlapping(first, second, shift)
    assert both.dtype == np.uint8 and both.sum() == 300
    assert np.argmax(both[20]) - np.argmax(both[5]) == shift
    assert drawings.overlapping(first, first, 0)[5, 14] == 255
    first[:, 0] = 50
    assert not drawings.overlapping(first, second, 10)[:, -1].any()


def test_tiles_of_a_sheet(tmp_path):
    tiles = np.random.randint(0, 256, (6, *SIZE), "uint8")
    sheet = np.vstack([np.hstack(tiles[:3]), np.hstack(tiles[3:])])
    Image.fromarray(sheet).save(tmp_path / "sheet.png")
    found = drawings.tiles(tmp_path / "sheet.png", SIZE)
    np.testing.assert_array_equal(found, tiles)
