"""Builds the wheel and uses it in environments that hold nothing else.

Run by `make test-wheel`: one environment gets the wheel, trains a step and
exports a SavedModel; the other gets TensorFlow alone and serves it.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

TRAIN = """
import numpy as np
from keras_capsules import export, losses, models
networks = {
    "capsnet": models.CapsNet((20, 20, 1), classes=3, filters=4, kernel_size=5,
                              primary_capsules=2, decoder_units=(8,)),
    "matrix_capsnet": models.MatrixCapsNet((20, 20, 1), classes=3,
                                           config=(8, 2, 3, 3), decoder_units=(8,)),
}
images = np.random.rand(8, 20, 20, 1).astype("float32")
for name, model in networks.items():
    loss = losses.MarginLoss() if name == "capsnet" else losses.SpreadLoss()
    model.compile("adam", loss=loss, metrics=["accuracy"])
    model.fit(images, np.arange(8) % 3)
    export.export_saved_model(model, name)
    np.savez(f"{name}.npz", images=images, **model.predict(images))
"""

SERVE = """
import importlib.util
import numpy as np, tensorflow as tf
assert importlib.util.find_spec("keras_capsules") is None
for network in ("capsnet", "matrix_capsnet"):
    expected = np.load(f"{network}.npz")
    served = tf.saved_model.load(f"{network}/1").signatures
    outputs = served["serving_default"](images=expected["images"])
    for name in ("scores", "poses"):
        worst = np.abs(outputs[name] - expected[name]).max()
        print(f"{network}: {name} differ by at most {worst:.1e}")
        assert worst < 1e-5
    shape = served["reconstruct"](images=expected["images"])["reconstructions"].shape
    assert shape == expected["images"].shape
"""


def environment(path, requirement):
    print(f"{path.name}: {requirement}", flush=True)
    venv.create(path, with_pip=True)
    python = path / "bin" / "python"
    # Most modules are never imported: compiling them all takes longer than the tests.
    install = ("install", "--quiet", "--no-compile", requirement)
    subprocess.run([python, "-m", "pip", *install], check=True)
    return python


def main():
    root = Path(__file__).parents[1]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        build = [sys.executable, "-m", "build", "--wheel", "-o", folder, root]
        subprocess.run(build, check=True)
        (wheel,) = folder.glob("*.whl")
        python = environment(folder / "with-wheel", str(wheel))
        subprocess.run([python, "-c", TRAIN], cwd=folder, check=True)
        python = environment(folder / "only-tensorflow", "tensorflow")
        subprocess.run([python, "-c", SERVE], cwd=folder, check=True)
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
