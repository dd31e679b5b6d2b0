import keras
import numpy as np
import pytest
from helpers import small_capsnet

from benchmarks import exports


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow exports"
)
def test_every_form_is_measured(tmp_path, monkeypatch, capsys):
    path = str(tmp_path / "network.keras")
    small_capsnet((28, 28, 1), classes=10).save(path)
    monkeypatch.setattr(exports, "NETWORKS", {path: "digits"})
    results = [
        {"network": path, "form": form, **exports.measure_export(path, form, limit=20)}
        for form in exports.FORMS
    ]
    size = {result["form"]: result["mb"] for result in results}
    assert size["LiteRT int8"] < size["LiteRT float16"] < size["LiteRT"]
    accuracies = [result["accuracy"] for result in results]
    np.testing.assert_allclose(accuracies[:5], accuracies[0])  # those in float32
    assert all(result["image_ms"] > 0.0 for result in results)
    exports.report(results)
    assert capsys.readouterr().out.count(path) == len(exports.FORMS)
