import numpy as np
import pytest

from keras_capsules.datasets.rendering import Studio
from keras_capsules.datasets.solids import at, ball, block, disc, hull


class Middle:
    """Draws no surprises."""

    def uniform(self, low, high, size=None):
        return np.broadcast_to(np.add(low, high) / 2.0, size or ())


TOWER = Studio(hull(disc(at(0, 0, 0), 0.2, 2), disc(at(0, 0, 1.8), 0.2, 2)))


def photographs(studio, elevation=40.0, azimuth=0.0, lightings=(0,)):
    return studio.photographs(elevation, azimuth, lightings, Middle()).astype("float32")


def test_table_is_plain_and_light():
    left = photographs(TOWER)[0, 0]
    around, lamp = 0.5, 0.55 * np.sin(np.deg2rad(50.0))
    gain, contrast = 0.975, 1.0
    grey = 0.5 + contrast * (gain * 0.92 * (around + lamp) - 0.5)
    corners = left[[0, 0, -1], [0, -1, 0]]
    np.testing.assert_allclose(corners, 255.0 * grey, atol=1.0)
    assert left.min() < 150


def test_lamps_on_either_side_give_mirror_images():
    ((left, right),) = photographs(TOWER, lightings=(0,))
    ((mirrored_right, mirrored_left),) = photographs(TOWER, lightings=(1,))
    assert abs(left - mirrored_left[:, ::-1]).mean() < 1.0
    assert abs(right - mirrored_right[:, ::-1]).mean() < 1.0
    assert abs(left - mirrored_right).mean() > 5.0


def test_shadow_falls_away_from_the_lamp():
    # Lighting 0 stands on the left of the camera and lighting 2 behind the toy.
    from_left, from_behind = photographs(TOWER, lightings=(0, 2))[:, 0]
    table = from_left[0, 0]
    assert (from_left[:, 60:] < 0.75 * table).sum() > 100
    assert (from_left[:, :35] < 0.75 * table).sum() == 0
    table = from_behind[0, 0]
    assert (from_behind[75:] < 0.75 * table).sum() > 100


def columns(place, azimuth):
    """Where the left and the right eye see a small ball, from almost overhead."""
    studio = Studio(hull(ball(place, 0.1)))
    (pair,) = photographs(studio, elevation=80.0, azimuth=azimuth, lightings=(4,))
    dark = [np.argwhere(image < 0.9 * image[0, 0]) for image in pair]
    return [places[:, 1].mean() for places in dark]


@pytest.mark.parametrize(("azimuth", "column"), [(0.0, 70), (180.0, 25), (90.0, 48)])
def test_azimuth_turns_the_camera_around_the_toy(azimuth, column):
    # What is on the left of a toy, +y, is on the right when the toy faces us.
    left, right = columns(at(0, 0.6, 0.1), azimuth)
    assert (left + right) / 2 == pytest.approx(column, abs=4)


def test_what_is_nearer_is_further_right_for_the_left_eye():
    left, right = columns(at(0.6, 0, 0.1), 0.0)
    assert 1.0 < left - right < 2.5
    left, right = columns(at(-0.6, 0, 0.1), 0.0)
    assert -2.5 < left - right < -1.0


def test_views_differ_and_follow_their_seed():
    box = Studio(block(at(0, 0, 0.3), [1.2, 0.6, 0.6]))

    def view(seed, lightings):
        rng = np.random.default_rng(seed)
        return box.photographs(45.0, 20.0, lightings, rng)

    first = view(1, range(6))
    assert first.shape == (6, 2, 96, 96) and first.dtype == "uint8"
    np.testing.assert_array_equal(first, view(1, range(6)))
    np.testing.assert_array_equal(first[[0, 3]], view(1, (0, 3)))
    assert (first != view(2, range(6))).any(axis=(1, 2, 3)).all()
