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
