"""Rendering of a toy on a table, with cameras, lamps and shadows."""

from collections.abc import Sequence

import numpy as np
import trimesh
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene

SIZE = 96
_SAMPLES = 2  # along each axis of a pixel
_DISTANCE = 7.0  # from the camera to the toy, whose radius is 1
_FIELD = 1.25  # half the width of the field of view at that distance
_BASELINE = np.deg2rad(4.0)  # between the two cameras, as seen from the toy
_TABLE = 20.0
_TOY_PAINT, _TABLE_PAINT = 0.8, 0.92

# The lamps have fixed positions relative to the camera while the toy turns. Each
# lighting: azimuth from the camera and elevation of the lamp, in degrees; intensity of
# the lamp and of the ambient light.
_LIGHTINGS = (
    (-60.0, 50.0, 0.55, 0.5),
    (60.0, 50.0, 0.55, 0.5),
    (-130.0, 45.0, 0.5, 0.5),
    (130.0, 45.0, 0.5, 0.5),
    (20.0, 75.0, 0.6, 0.4),
    (-20.0, 35.0, 0.4, 0.65),
)
# Points of a lamp relative to its centre, one for each sample of a pixel. Several
# points give shadows soft edges.
_LAMP = 0.02 * np.array([(1, 1, 0), (-1, -1, 1), (1, -1, -1), (-1, 1, 0)])


class Studio:
    """A toy on a light table, with two cameras and six lightings.

    Args:
        toy: mesh of the toy, created by `toy_shapes.toy`.
    """

    def __init__(self, toy: trimesh.Trimesh):
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, toy.triangles.astype("float32"))
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]], "float32")
        TriangleMesh(self._scene, _TABLE * corners[[[0, 1, 2], [0, 2, 3]]])
        self._centre = np.array([0.0, 0.0, toy.bounds[1, 2] / 2.0], "float32")

    def photographs(
        self,
        elevation: float,
        azimuth: float,
        lightings: Sequence[int],
        rng: np.random.Generator,
    ) -> np.ndarray:
        """Renders stereo pairs from one viewpoint, under several lightings.

        The distance and position of the toy vary slightly from view to view, the
        exposure and contrast from pair to pair.

        Args:
            elevation: elevation of the cameras above the table, in degrees.
            azimuth: azimuth of the cameras around the toy, in degrees.
            lightings: indices of the lightings, from 0 to 5.
            rng: random number generator of the variation.

        Returns:
            Grey images, `(lightings, 2, 96, 96)`, uint8.
        """
        elevation, azimuth = np.deg2rad([elevation, azimuth])
        field = _FIELD * rng.uniform(0.92, 1.15)
        aim = self._centre + np.append(rng.uniform(-0.12, 0.12, 2), 0.0)
        exposures = rng.uniform((0.85, 0.8), (1.1, 1.2), (len(_LIGHTINGS), 2))
        pairs = np.empty((len(lightings), 2, SIZE, SIZE), "uint8")
        for eye, side in enumerate((-0.5, 0.5)):
            backward = _direction(azimuth + side * _BASELINE, elevation)
            surface = self._surface(aim, backward, field)
            for index, lighting in enumerate(lightings):
                gain, contrast = exposures[lighting]
                grey = gain * self._shade(surface, azimuth, _LIGHTINGS[lighting])
                grey = 0.5 + contrast * (grey - 0.5)
                pairs[index, eye] = np.clip(255.0 * grey, 0.0, 255.0).round()
        return pairs

    def _surface(self, aim, backward, field):
        """Returns the points, normals and paint of the surfaces that the rays hit."""
        right = np.cross([0.0, 0.0, 1.0], backward)
        right /= np.linalg.norm(right)
        up = np.cross(backward, right)
        step = np.linspace(-field, field, SIZE * _SAMPLES)[:, None]
        rays = (step * right)[None] - (step * up)[:, None] - _DISTANCE * backward
        rays = rays.reshape(-1, 3).astype("float32")
        eye = np.float32(aim + _DISTANCE * backward)
        hits = self._scene.run(np.tile(eye, (len(rays), 1)), rays, output=True)
        normals = hits["Ng"] / np.linalg.norm(hits["Ng"], axis=1, keepdims=True)
        points = eye + hits["tfar"][:, None] * rays
        paint = np.float32([_TOY_PAINT, _TABLE_PAINT])[hits["geomID"]]
        # The points are slightly above the surface, so that it does not shadow itself.
        return points + 1e-3 * normals, normals, paint

    def _shade(self, surface, azimuth, lighting):
        points, normals, paint = surface
        turn, rise, lamp, around = lighting
        spots = _direction(azimuth + np.deg2rad(turn), np.deg2rad(rise)) + _LAMP
        # Each sample of a pixel uses another point of the lamp.
        grid = np.arange(SIZE * _SAMPLES) % _SAMPLES
        rays = spots.astype("float32")[_SAMPLES * grid[:, None] + grid].reshape(-1, 3)
        facing = np.maximum(np.einsum("nk,nk->n", normals, rays), 0.0)
        # Only points in the shadow of the toy's bounding sphere can be shadowed.
        offset = points - self._centre
        across = np.cross(offset, spots.mean(0, dtype="float32"))
        near = np.flatnonzero(
            (facing > 0.0) & (np.einsum("nk,nk->n", across, across) < 1.2)
        )
        shadowed = self._scene.run(points[near], rays[near], query="OCCLUDED") >= 0
        facing[near[shadowed]] = 0.0
        light = lamp * facing + around * (0.65 + 0.35 * normals[:, 2])
        grey = (paint * light).reshape(SIZE, _SAMPLES, SIZE, _SAMPLES)
        return grey.mean((1, 3))


def _direction(azimuth: float, elevation: float) -> np.ndarray:
    level = np.cos(elevation)
    return np.array(
        [level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)]
    )
