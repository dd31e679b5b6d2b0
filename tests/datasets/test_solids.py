import numpy as np
import pytest

from keras_capsules.datasets.solids import (
    at,
    ball,
    block,
    disc,
    hanging,
    hull,
    limb,
    upwards,
    wheel,
    wing,
)


def bounds(solid):
    return solid.bounds.ravel()


def test_ball_and_its_hull():
    sphere = hull(ball(at(1, 2, 3), 0.5))
    assert sphere.volume == pytest.approx(np.pi / 6, rel=0.02)
    np.testing.assert_allclose(sphere.centroid, [1, 2, 3], atol=1e-6)
    flat = hull(ball(at(0, 0, 0), at(1.0, 2.0, 0.5)))
    np.testing.assert_allclose(bounds(flat), [-1, -2, -0.5, 1, 2, 0.5], atol=1e-6)


def test_disc_lies_across_its_axis():
    points = disc(at(1, 2, 3), 2.0, axis=0)
    np.testing.assert_array_equal(points[:, 0], 1.0)
    np.testing.assert_allclose(np.linalg.norm(points - [1, 2, 3], axis=1), 2.0)


def test_limb_is_a_chain():
    thigh, shin = limb([at(0, 0, 0), at(2, 0, 0), at(2, 0, -3)], [0.5, 0.25, 0.125])
    np.testing.assert_allclose(bounds(thigh), [-0.5, -0.5, -0.5, 2.25, 0.5, 0.5])
    np.testing.assert_allclose(bounds(shin)[[2, 5]], [-3.125, 0.25])


def test_wheel_rolls_forwards():
    np.testing.assert_allclose(
        bounds(wheel(at(1, 2, 3), 0.5, 0.2)), [0.5, 1.9, 2.5, 1.5, 2.1, 3.5]
    )


def test_block_narrows_towards_its_top():
    box = block(at(1, 1, 1), [2.0, 4.0, 6.0])
    assert box.volume == pytest.approx(48.0)
    np.testing.assert_allclose(bounds(box), [0, -1, -2, 2, 3, 4])
    tapered = block(at(0, 0, 0), [2.0, 4.0, 6.0], top=(0.5, 0.25))
    top = tapered.vertices[tapered.vertices[:, 2] > 0]
    np.testing.assert_allclose(np.ptp(top, axis=0), [1.0, 1.0, 0.0])


def test_wing_lies_between_its_edges():
    solid = wing(at(1, 0, 0), 0.5, at(0, 3, 1), 0.25)
    np.testing.assert_allclose(
        bounds(solid), [-0.275, -0.025, -0.025, 1.025, 3.025, 1.025], atol=1e-6
    )


def test_directions():
    np.testing.assert_allclose(upwards(0.0), [1, 0, 0])
    np.testing.assert_allclose(upwards(np.pi / 2), [0, 0, 1], atol=1e-9)
    np.testing.assert_allclose(hanging(0.0, 0.0), [0, 0, -1])
    np.testing.assert_allclose(hanging(np.pi / 2, 0.0), [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(hanging(0.0, np.pi / 2), [0, 1, 0], atol=1e-9)
