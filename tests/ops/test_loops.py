import keras
import numpy as np
import pytest
from helpers import close, gradients

from keras_capsules.ops import fixed_loop


@pytest.mark.parametrize("times", [0, 1, 4])
def test_repeat_applies_the_step_so_often(times):
    close(fixed_loop(lambda x: 2.0 * x, keras.ops.ones((3,)), times), [2.0**times] * 3)


@pytest.mark.parametrize("times", [0, 1, 4])
def test_gradient_flows_through_every_pass(times):
    x, factor = np.ones((3,), "float32"), np.float32(1.5)
    slopes = gradients(lambda x, f: fixed_loop(lambda y: f * y, x, times), x, factor)
    np.testing.assert_allclose(slopes[0], [1.5**times] * 3, rtol=1e-6)
    if times:  # the factor has no part in no passes
        np.testing.assert_allclose(slopes[1], 3 * times * 1.5 ** (times - 1), rtol=1e-6)
