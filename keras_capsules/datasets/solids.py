"""Convex pieces that toys are built from.

A toy looks along x, its left side is +y, and z points up. A piece is the convex
hull of simpler ones, each given as an array of points `(points, 3)`.
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
    """Forwards, raised by an angle."""
    return at(np.cos(angle), 0.0, np.sin(angle))


def hanging(swing: float, out: float) -> np.ndarray:
    """Downwards, swung forwards and spread to the left by angles."""
    return at(np.sin(swing) * np.cos(out), np.sin(out), -np.cos(swing) * np.cos(out))


def ball(centre: Sequence[float], radii: float | Sequence[float]) -> np.ndarray:
    return _BALL * radii + centre


def disc(centre: Sequence[float], radius: float, axis: int) -> np.ndarray:
    """A flat circle whose axis is x, y or z: 0, 1 or 2."""
    circle = radius * np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)
    return np.insert(circle, axis, 0.0, axis=1) + centre


def hull(*pieces: np.ndarray) -> trimesh.Trimesh:
    return trimesh.convex.convex_hull(np.concatenate(pieces))


def limb(
    joints: Sequence[Sequence[float]], radii: Sequence[float]
) -> Iterator[trimesh.Trimesh]:
    """Round pieces from joint to joint, each with its own radius."""
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
    """A box whose upper side is smaller along x and y by the factors `top`."""
    corners = np.array([(x, y) for x in SIDES for y in SIDES])
    low = np.insert(corners, 2, -1.0, axis=1)
    high = np.insert(corners * top, 2, 1.0, axis=1)
    return hull(np.concatenate([low, high]) * np.divide(size, 2.0) + centre)


def wing(
    root: np.ndarray, chord: float, tip: np.ndarray, tip_chord: float
) -> trimesh.Trimesh:
    """A flat piece between two edges along x that begin at `root` and `tip`."""
    ends = (root, root - at(chord, 0, 0), tip, tip - at(tip_chord, 0, 0))
    return hull(*(ball(end, 0.025) for end in ends))
