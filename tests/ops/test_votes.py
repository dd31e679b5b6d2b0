import numpy as np
import pytest
from helpers import close

from keras_capsules.ops import votes


@pytest.mark.parametrize("pose", [(1, 8, 16), (4, 4, 4), (2, 3, 5)])
def test_vote_is_pose_times_kernel(pose):
    p, q, r = pose
    rng = np.random.default_rng(0)
    poses = rng.normal(size=(3, 6, p, q)).astype("float32")
    kernel = rng.normal(size=(6, 5, q, r)).astype("float32")
    expected = np.empty((3, 5, 6, p, r))
    for n, j, i in np.ndindex(3, 5, 6):
        expected[n, j, i] = poses[n, i] @ kernel[i, j]
    close(votes(poses, kernel), expected, atol=1e-5)


def test_shapes_that_do_not_fit():
    poses = np.zeros((2, 6, 1, 8), "float32")
    with pytest.raises(ValueError, match="must agree in children and in Q"):
        votes(poses, np.zeros((5, 3, 8, 4), "float32"))
    with pytest.raises(ValueError, match="`kernel` must have shape"):
        votes(poses, np.zeros((6, 8, 4), "float32"))


def test_float16_votes_end_before_infinity():
    poses = np.full((1, 2, 1, 8), 150.0, "float16")
    kernel = np.full((2, 3, 8, 4), 150.0, "float16")
    close(votes(poses, kernel), np.full((1, 3, 2, 1, 4), 6e4), rtol=1e-3)
