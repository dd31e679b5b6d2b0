"""Convex pieces, from which toys are built.

A toy faces the x axis, its left side is +y, and z points up. A piece is the convex hull
of simpler shapes, each given as an array of points `(points, 3)`.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import trimesh

SIDES = (-1.0, 1.0)
_BALL = trimesh.creation.icosphere(subdivisions=3).vertices
_TURN = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)


def at(x: float, y: float, z: float) -> np.ndarray:
    return np.array([x, y, z], "float64")


def upwards(angle: float) -> np.ndarray:
    """Returns the forward direction, raised by an angle."""
    return at(np.cos(angle), 0.0, np.sin(angle))


def hanging(swing: float, out: float) -> np.ndarray:
    """Returns the downward direction, rotated forwards and to the left by angles."""
    return at(np.sin(swing) * np.cos(out), np.sin(out), -np.cos(swing) * np.cos(out))


def ball(centre: Sequence[float], radii: float | Sequence[float]) -> np.ndarray:
    return _BALL * radii + centre


def disc(centre: Sequence[float], radius: float, axis: int) -> np.ndarray:
    """Returns a flat circle. `axis` is its normal: 0, 1 or 2 for x, y or z."""
    circle = radius * np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
    return np.insert(circle, axis, 0.0, axis=1) + centre


def hull(*pieces: np.ndarray) -> trimesh.Trimesh:
    return trimesh.convex.convex_hull(np.concatenate(pieces))


def limb(
    joints: Sequence[Sequence[float]], radii: Sequence[float]
) -> Iterator[trimesh.Trimesh]:
    """Yields round pieces between successive joints. Each joint has its own radius."""
    balls = (ball(joint, radius) for joint, radius in zip(joints, radii, strict=True))
    for start, end in pairwise(balls):
        yield hull(start, end)


def wheel(centre: Sequence[float], radius: float, width: float) -> trimesh.Trimesh:
    return hull(
        *(disc(centre + at(0, side * width / 2, 0), radius, 1) for side in SIDES)
    )


def block(
    centre: Sequence[float], size: Sequence[float], top: Sequence[float] = (1.0, 1.0)
) -> trimesh.Trimesh:
    """Returns a box. Its upper side is scaled along x and y by the factors `top`."""
    corners = np.array([(x, y) for x in SIDES for y in SIDES])
    low = np.insert(corners, 2, -1.0, axis=1)
    high = np.insert(corners * top, 2, 1.0, axis=1)
    return hull(np.concatenate([low, high]) * np.divide(size, 2.0) + centre)


def wing(
    root: np.ndarray, chord: float, tip: np.ndarray, tip_chord: float
) -> trimesh.Trimesh:
    """Returns a flat piece between two edges along x, which start at `root` and `tip`.

    The edges have the lengths `chord` and `tip_chord`.
    """
    ends = (root, root - at(chord, 0, 0), tip, tip - at(tip_chord, 0, 0))
    return hull(*(ball(end, 0.025) for end in ends))
