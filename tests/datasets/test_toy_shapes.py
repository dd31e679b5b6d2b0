import sys

import numpy as np
import pytest

from keras_capsules.datasets.toy_shapes import CATEGORIES, toy

TRAIN, TEST = (4, 6, 7, 8, 9), (0, 1, 2, 3, 5)


@pytest.mark.parametrize("category", range(len(CATEGORIES)))
def test_toys_stand_on_the_table_and_fill_a_sphere(category):
    first, second = toy(category, 0), toy(category, 1)
    for mesh in (first, second):
        low, high = mesh.bounds
        assert low[2] == pytest.approx(0.0, abs=1e-9)
        np.testing.assert_allclose((low + high)[:2], 0.0, atol=1e-9)
        distance = np.linalg.norm(mesh.vertices - [0, 0, high[2] / 2], axis=1)
        assert distance.max() == pytest.approx(1.0)
    assert abs(first.bounds - second.bounds).max() > 0.02
    np.testing.assert_array_equal(first.vertices, toy(category, 0).vertices)


@pytest.mark.parametrize("instances", [TRAIN, TEST])
def test_trucks_of_every_kind_in_both_splits(instances, monkeypatch):
    module = sys.modules["keras_capsules.datasets.toy_shapes"]
    kinds = []
    for name in ("_box", "_tank", "_dumper", "_crane", "_logs"):
        load = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *args, load=load: kinds.append(load) or load(*args)
        )
    for instance in instances:
        toy(CATEGORIES.index("trucks"), instance)
    assert len(set(kinds)) == 5
