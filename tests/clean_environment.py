"""Builds the wheel and uses it in an environment that holds nothing else.

Run by `make test-wheel`, or with the path of a wheel that is built already. A fresh
environment gets the wheel, loads the trained networks, trains a step and exports
SavedModels. Then the wheel goes, TensorFlow remains alone and serves them with the
program that comes with it.
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

TRAIN = """
import numpy as np
from keras_capsules import export, losses, models
networks = {
    "capsnet": models.CapsNet((20, 20, 1), classes=3, filters=4, kernel_size=5,
                              primary_capsules=2, decoder_units=(8,)),
    "matrix_capsnet": models.MatrixCapsNet((20, 20, 1), classes=3,
                                           variant=(8, 2, 3, 3), decoder_units=(8,)),
}
images = np.random.rand(8, 20, 20, 1).astype("float32")
for name, model in networks.items():
    loss = losses.MarginLoss() if name == "capsnet" else losses.SpreadLoss()
    model.compile("adam", loss=loss, metrics=["accuracy"])
    model.fit(images, np.arange(8) % 3)
    export.export_saved_model(model, name)
    np.save(f"{name}_scores.npy", model.predict(images)["scores"])
np.save("images.npy", images)
for preset, of in (("capsule_classifier_multi_mnist", models.CapsuleClassifier),
                   ("capsnet_mnist_small", models.CapsNet),
                   ("efficient_capsnet_mnist_paper", models.EfficientCapsNet),
                   ("matrix_capsnet_mnist_small", models.MatrixCapsNet)):
    model = of.from_preset(preset)
    images = np.zeros((2, *model.image_shape), "float32")
    assert model.predict(images)["scores"].shape == (2, 10)
"""

# The signatures of each network: inputs, outputs.
DEFAULT = ({"images"}, {"classes", "poses", "scores"})
BOTH = {
    "serving_default": DEFAULT,
    "serving_uint8": DEFAULT,
    "reconstruct": ({"images"}, {"reconstructions"}),
    "decode": ({"classes", "poses"}, {"pictures"}),
}
TRACED = {"distances", "parents", "scores", "weights"}
TRACED_EM = {*TRACED, "activations", "means", "variances"}
SIGNATURES = {
    "capsnet": {**BOTH, "trace": ({"images"}, TRACED)},
    "matrix_capsnet": {**BOTH, "trace": ({"images"}, TRACED_EM)},
}


def listed(text):
    """The signatures that saved_model_cli shows, in the form of `SIGNATURES`."""
    found = {}
    for part in text.split("signature_def['")[1:]:
        name = part.partition("'")[0]
        sides = (
            set(re.findall(rf"{side}puts\['(\w+)'\]", part)) for side in ("in", "out")
        )
        if not name.startswith("__"):
            found[name] = tuple(sides)
    return found


def serve(program, folder, network, signatures):
    """Shows and runs a SavedModel."""
    model = ["--dir", f"{network}/1"]
    show = [program, "show", *model, "--all"]
    shown = subprocess.run(show, cwd=folder, check=True, capture_output=True, text=True)
    assert listed(shown.stdout) == signatures, shown.stdout
    tags = ["--tag_set", "serve", "--signature_def", "serving_default"]
    files = ["--inputs", "images=images.npy", "--outdir", f"{network}_outputs"]
    run = [program, "run", *model, *tags, *files]
    subprocess.run(run, cwd=folder, check=True, capture_output=True)
    scores = np.load(folder / f"{network}_outputs" / "scores.npy")
    worst = np.abs(scores - np.load(folder / f"{network}_scores.npy")).max()
    print(f"{network}: {len(signatures)} signatures, scores differ by {worst:.1e}")
    assert worst < 1e-5


def main():
    root = Path(__file__).parents[1]
    os.environ["KERAS_BACKEND"] = "tensorflow"
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        wheel = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else None
        if wheel is None:
            # The wheel is built from the source distribution, as a release is.
            build = [sys.executable, "-m", "build", "-o", folder, root]
            subprocess.run(build, check=True)
            (wheel,) = folder.glob("*.whl")
        venv.create(folder / "environment", with_pip=True)
        python = folder / "environment" / "bin" / "python"
        pip = [python, "-m", "pip", "--quiet"]
        # Most modules are never imported: compiling all takes longer than the rest.
        subprocess.run([*pip, "install", "--no-compile", wheel], check=True)
        subprocess.run([python, "-c", TRAIN], cwd=folder, check=True)
        subprocess.run([*pip, "uninstall", "--yes", "keras_capsules"], check=True)
        find = (
            "import importlib.util as u, sys; sys.exit(bool(u.find_spec(sys.argv[1])))"
        )
        subprocess.run([python, "-c", find, "keras_capsules"], cwd="/", check=True)
        for network, signatures in SIGNATURES.items():
            serve(python.with_name("saved_model_cli"), folder, network, signatures)
    print("1 passed, 0 failed")


if __name__ == "__main__":
    main()
