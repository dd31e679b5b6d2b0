"""Classifies images with a network that train_own_images.py has trained.

    python examples/predict_images.py runs/flowers rose.jpg
    python examples/predict_images.py runs/flowers FOLDER --csv predictions.csv

The first argument is the output folder of the training, or the folder in saved_models/
that the network was exported to. Images can have any size: they are scaled and cropped
to the central square, as during the training. Scores lie between 0 and 1 and need not
sum to 1.
"""

import argparse
import csv
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np

from keras_capsules import datasets, files

BATCH = 32

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("run", type=Path, help="output folder of the training")
parser.add_argument("images", type=Path, nargs="+", help="image files or folders")
parser.add_argument(
    "--csv", type=Path, help="write the scores of all classes to this file"
)
args = parser.parse_args()
sys.stdout.reconfigure(errors="backslashreplace")  # for names that are not UTF-8

trained = args.run / "best.keras"
if not trained.exists():
    trained = args.run / "model.keras"
try:
    names = json.loads((args.run / "classes.json").read_text())
    model = keras.saving.load_model(trained, compile=False)
except (OSError, ValueError) as error:
    sys.exit(f"{args.run} holds no network of train_own_images.py: {error}")
paths = []
for path in args.images:
    paths += datasets.image_files(path) if path.is_dir() else [path]
if not paths:
    sys.exit("There are no images.")
if args.csv:
    try:  # an unwritable file is reported before the predictions
        if args.csv.is_dir():
            raise IsADirectoryError("it is a folder")
        tempfile.TemporaryFile(dir=args.csv.parent).close()
    except OSError as error:
        parser.error(f"--csv {args.csv} can't be written: {error}")

rows = []
for start in range(0, len(paths), BATCH):
    images, read = [], []
    for path in paths[start : start + BATCH]:
        try:
            images.append(datasets.read_image(path, model.image_shape[:2]))
            read.append(path)
        except Exception as error:  # damaged files raise many types of errors
            print(f"{path}: can't be read ({error})", file=sys.stderr)
    if not read:
        continue
    scores = model.predict(np.stack(images), verbose=0)["scores"]
    for path, row in zip(read, scores, strict=True):
        best = np.argsort(-row)[:3]
        print(f"{path}: {', '.join(f'{names[i]} {row[i]:.2f}' for i in best)}")
        rows.append([path, names[best[0]], *(f"{score:.4f}" for score in row)])
if args.csv:
    with (
        files.replaced(args.csv) as unfinished,
        open(unfinished, "w", newline="", errors="surrogateescape") as file,
    ):
        csv.writer(file).writerows([["file", "class", *names], *rows])
sys.exit(0 if rows else 1)
