import keras
from helpers import once

from benchmarks.memory import growth


@once
def test_calls_leave_little_behind():
    assert growth(keras.backend.backend(), "dynamic", block=2, calls=10)["mb"] < 50.0
