"""The code of the pages runs, and their links lead somewhere."""

import re
import sys
from functools import partialmethod
from pathlib import Path

import keras
import numpy as np
import pytest
from helpers import once
from PIL import Image

from keras_capsules import datasets, export, layers, losses, models

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "api")
SHORT = "epochs=1, steps_per_epoch=1, validation_steps=1, verbose=0"
only_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="only TensorFlow exports"
)


def blocks(page):
    """The Python code of a page."""
    text = (DOCS / f"{page}.md").read_text()
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run(page, changes=(), **scope):
    """Runs the code of a page, with short trainings, and returns what it defines."""
    for code in blocks(page):
        code = re.sub(r"epochs=\d+", SHORT, code)
        for old, new in changes:
            code = code.replace(old, new)
        exec(code, scope)
    return scope


@pytest.fixture
def few(tmp_path, monkeypatch):
    """An empty folder, and few digits wherever data would be downloaded.

    TensorFlow takes longer to trace a step than to run one, so trainings run eagerly.
    """
    monkeypatch.chdir(tmp_path)
    digits = datasets.Splits(*(part.take(64) for part in datasets.digits()))
    monkeypatch.setattr(datasets, "mnist", lambda *_: digits)
    # `multi_mnist` has imported the loader; the module has the function's name.
    module = sys.modules["keras_capsules.datasets.multi_mnist"]
    monkeypatch.setattr(module, "mnist", lambda *_: digits)
    if keras.backend.backend() == "tensorflow":
        eager = partialmethod(keras.Model.compile, run_eagerly=True)
        monkeypatch.setattr(keras.Model, "compile", eager)


def test_capsules_in_ten_minutes(few):
    found = run("capsules")
    assert found["scores"].shape[1] == 10
    assert found["outputs"]["poses"].shape == (8, 10, 16)
    assert found["model"].count_params() == 68_570


@once
def test_your_own_images(few):
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs", "birds"):
        Path("animals", name).mkdir(parents=True)
        for index in range(6):
            pixels = rng.integers(0, 256, (70, 80, 3), "uint8")
            Image.fromarray(pixels).save(f"animals/{name}/{index}.png")
    changes = [('weights="imagenet"', "weights=None")]
    changes += [("batch(16)", "batch(4)"), ("validation_steps=1, ", "")]
    found = run("own_images", changes)
    assert found["data"].class_names == ("birds", "cats", "dogs")
    assert found["backbone"].trainable and found["model"].classes == 3
    assert found["flowers"].classes == 7


@once
def test_a_network_of_your_own(few):
    found = run("own_network", [("batch(64)", "batch(8)")])
    assert found["model"].objects == 2


def test_the_layers_make_a_model_that_trains(few):
    (code,) = (block for block in blocks("own_network") if "EMRoutingCapsule" in block)
    scope = {"keras": keras, "layers": layers, "losses": losses}
    exec(code, scope)
    loss, accuracy = scope["model"].train_on_batch(
        np.zeros((2, 28, 28, 1)), np.array([0, 1])
    )
    assert loss > 0 and accuracy == 0.5


@once
def test_look_inside(few):
    changes = [('trace["weights"].shape', 'weights = trace["weights"].shape')]
    changes += [('trace["activations"].shape', 'active = trace["activations"].shape')]
    changes += [("monitor.measure(model)", "measured = monitor.measure(model)")]
    found = run("look_inside", changes)
    assert found["active"] == (3, 16, 10)
    assert found["weights"][:3] == (3, 16, 10)
    text = (DOCS / "look_inside.md").read_text()
    assert all(f"`{name}`" in text for name in found["measured"])


@once
def test_results(few):
    from keras_capsules import callbacks

    run("results", callbacks=callbacks, models=models, datasets=datasets)


@once
def test_training_on_a_gpu(few):
    # There is no TensorFlow to keep from GPUs, and the setting is a global one.
    changes = [
        ("config.set_fused_kernels(True)", ""),
        ("batch_size=256", "batch_size=8"),
    ]
    run("gpu", changes)


@only_tensorflow
def test_many_devices(few):
    changes = [
        ("keras.distribution.set_distribution", ""),
        ("batch(256", "batch(8"),
        ("batch(200)", "batch(8)"),
    ]
    run("distributed", changes)


@only_tensorflow
def test_export(few):
    found = run("export")
    assert found["names"] == list("0123456789")


@only_tensorflow
def test_serve(tmp_path, monkeypatch):
    import serving

    name = "capsnet_mnist_small"
    path = ROOT / "saved_models" / name / "1"
    in_python, rest, grpc, own, files = blocks("serving")
    monkeypatch.chdir(ROOT)
    scope = {}
    exec(in_python, scope)
    assert scope["pictures"]["pictures"].shape == (7, 28, 28, 1)
    with serving.rest(path, name) as server:
        exec(rest.replace("http://localhost:8501", server.url), scope)
    assert scope["first"]["classes"] in range(10) and len(scope["second"]) == 3
    with serving.grpc(path, name) as port:
        exec(grpc.replace("8500", str(port)), scope)
    np.testing.assert_allclose(scope["scores"][0], scope["first"]["scores"], atol=1e-6)
    monkeypatch.chdir(tmp_path)
    exec(files, scope)
    assert {path.suffix for path in tmp_path.iterdir()} == {".onnx", ".tflite"}

    exported = tmp_path / "saved_models" / "animals"
    backbone = models.residual_backbone((64, 64, 3), width=2, blocks=1)
    network = models.CapsuleClassifier((64, 64, 3), 2, backbone, primary_capsules=2)
    export.export_saved_model(network, exported)
    (exported / "classes.json").write_text('["cats", "dogs"]')
    Image.new("RGB", (80, 70)).save("photo.jpg")
    with serving.rest(exported / "1", "animals") as server:
        exec(own.replace("http://localhost:8501", server.url), scope)
    assert scope["prediction"]["classes"] in (0, 1)


def test_each_page_with_code_has_a_test():
    tested = set(re.findall(r'(?:run|blocks)\("(\w+)"', Path(__file__).read_text()))
    tested.add("new_routing")  # tests/test_docs.py
    assert tested == {path.stem for path in PAGES if blocks(path.stem)}


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "README.md"], ids=lambda path: path.stem
)
def test_links_lead_somewhere(page):
    prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", prose):
        file, _, anchor = target.partition("#")
        if file.startswith("https://"):
            continue
        linked = page.parent / file if file else page
        assert linked.exists(), target
        headings = re.findall(r"^#+ (.*)$", linked.read_text(), re.M) if anchor else []
        slugs = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings}
        assert not anchor or anchor in slugs, target


def test_the_site_has_every_page():
    nav = (ROOT / "mkdocs.yml").read_text()
    for path in DOCS.rglob("*.md"):
        assert f" {path.relative_to(DOCS)}\n" in nav, path
