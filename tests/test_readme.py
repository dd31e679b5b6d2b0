import re
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import not_on_jax, once

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SHORT = "epochs=1, steps_per_epoch=1, validation_steps=1, verbose=0"
only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow exports"
)


@not_on_jax
def test_the_ten_lines_run():
    code = re.search(r"## Ten lines\n\n```python\n(.*?)```", README, re.DOTALL)[1]
    scope = {}
    exec(code.replace("epochs=5", SHORT), scope)
    assert scope["model"].output_shape == (None, 10)


@not_on_jax
def test_the_lines_of_the_matrix_capsules_run():
    (code,) = re.findall(r"```python\n([^`]*MatrixCapsNet\(.*?)```", README, re.DOTALL)
    scope = {}
    exec(code.replace("epochs=5", SHORT), scope)
    assert scope["model"].count_params() == 68_570


def test_the_lines_of_the_layers_make_a_model_that_trains():
    (code,) = re.findall(r"```python\n([^`]*EMRoutingCapsule.*?)```", README, re.DOTALL)
    scope = {}
    exec(code, scope)
    loss, accuracy = scope["model"].train_on_batch(
        np.zeros((2, 28, 28, 1)), np.array([0, 1])
    )
    assert loss > 0 and accuracy == 0.5


@once
def test_the_lines_of_the_classifier_make_a_model_that_trains():
    (code,) = re.findall(r"```python\n([^`]*MobileNetV2.*?)```", README, re.DOTALL)
    images, labels = np.zeros((2, 96, 96, 3), "uint8"), np.array([0, 1])
    scope = {"images": images, "labels": labels}
    code = code.replace('weights="imagenet"', "weights=None")
    exec(code.replace("epochs=5", "epochs=1, verbose=0"), scope)
    assert scope["backbone"].trainable and scope["model"].classes == 5


@only_tensorflow
def test_the_lines_over_rest_and_grpc_run():
    import serving

    name = "capsnet_mnist_small"
    path = ROOT / "saved_models" / name / "1"
    (code,) = re.findall(r"```python\n([^`]*urllib.request.*?)```", README, re.DOTALL)
    scope = {}
    with serving.rest(path, name) as server:
        exec(code.replace("http://localhost:8501", server.url), scope)
    assert scope["first"]["classes"] in range(10) and len(scope["second"]) == 3
    (code,) = re.findall(r"```python\n(import grpc.*?)```", README, re.DOTALL)
    with serving.grpc(path, name) as port:
        exec(code.replace("8500", str(port)), scope)
    np.testing.assert_allclose(scope["scores"][0], scope["first"]["scores"], atol=1e-6)


@only_tensorflow
def test_the_lines_of_the_trained_networks_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope = {}
    for code in re.findall(r"```python\n([^`]*from_preset.*?)```", README, re.DOTALL):
        exec(code, scope)
    assert {path.suffix for path in tmp_path.iterdir()} == {".onnx", ".tflite"}


@only_tensorflow
def test_the_lines_of_the_savedmodel_run(monkeypatch):
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n([^`]*saved_model.load.*?)```", README, re.DOTALL)
    scope = {}
    exec(code, scope)
    assert scope["pictures"]["pictures"].shape == (7, 28, 28, 1)


def test_links_lead_somewhere():
    prose = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\S+)", README, re.MULTILINE):
        assert f"\n{target}:" in makefile, target


def test_no_placeholder_is_left():
    assert "@@" not in README
