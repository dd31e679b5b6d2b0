import keras
import numpy as np
from helpers import once

from benchmarks import fuzz

# On JAX and TensorFlow every shape is compiled anew.
COUNT = 60 if keras.backend.backend() == "torch" else 1


def test_a_sample_agrees_with_the_formulas(capsys):
    status = fuzz.fuzz(0, range(183, 183 + COUNT))
    assert status == 0, capsys.readouterr().out


@once
def test_a_wrong_output_is_found(capsys, monkeypatch):
    def off_by_a_little(rng):
        x = rng.normal(size=(3, 4))
        return fuzz.Case("sum", lambda x: 1.0001 * x, lambda x: [x], {"x": x})

    monkeypatch.setattr(fuzz, "LEGAL_CASES", {off_by_a_little: 1.0})
    monkeypatch.setattr(fuzz, "ILLEGAL_CASES", {})
    assert fuzz.fuzz(3, [7]) == 1
    out = capsys.readouterr().out
    assert "python -m benchmarks.fuzz --seed 3 --case 7  # sum: output 0 errs" in out
    assert "| sum | 1 | 1 |" in out


@once
def test_what_is_refused_has_to_be_named():
    def refuse(text):
        raise ValueError(text)

    assert fuzz.refused("this", lambda: refuse("`size` is wrong"), "size") is None
    assert "names no size" in fuzz.refused("this", lambda: refuse("wrong"), "size")
    assert "is taken" in fuzz.refused("this", lambda: None, "size")
    assert "raises KeyError" in fuzz.refused("this", lambda: {}["x"], "size")


@once
def test_patches_are_those_of_a_convolution():
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    found = fuzz.patches(x, (2, 2), (2, 2), "same")[0, :, :, :, :, 0]
    np.testing.assert_array_equal(found[1, 1], [[10, 11], [0, 0]])
    assert found.shape == (2, 2, 2, 2)
