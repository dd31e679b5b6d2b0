"""Classifies lines of text as code, comment or documentation with capsules.

    python examples/classify_text.py
    python examples/classify_text.py --routing dynamic --output runs/text_dynamic

The lines come from the source files of Python's standard library, so nothing is
downloaded. Each word is a child capsule. All words share one kernel, so a line can have
any number of words, and padding is masked.

The output folder receives metrics.json, history.csv, figures and the best model. In
words.png a word is darker the more strongly it is coupled to the longest class capsule.
Ctrl-C stops the training at any time; --resume continues it after the last finished
epoch.
"""

import argparse
import ast
import io
import json
import os
import re
import signal
import sys
import sysconfig
import tokenize
import zlib
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# Imports can swallow KeyboardInterrupt. Until exit_cleanly, Ctrl-C ends the process.
if __name__ == "__main__" and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import keras
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure

from keras_capsules import callbacks, files, layers, losses, plotting

CLASSES = ("code", "comment", "documentation")
# The hash of a file name modulo 10 selects the split; other files are for training.
SPLITS = {0: "test", 1: "validation"}
WORD = re.compile(r"\w+|[^\w\s]")
SHORTEST = 4  # fewest words of a line
FEWEST = 30  # fewest lines of a split, so that it has some lines of each class
IDS = 5000  # number of word ids; the id 0 is padding
ROUND = 16  # the length of a batch is a multiple of this number
SHOWN, WIDEST = 2, 60  # lines of each class in words.png, and most characters of a line


def lines_of(path):
    """Returns the lines of a source file as pairs of a text and its class number."""
    with tokenize.open(path) as file:
        source = file.read()
    code, comments = set(), {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            comments[row] = column
        elif token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.OP):
            code.add(row)
    lines = ["", *source.split("\n")]  # row numbers begin at 1
    found = [(lines[row][: comments.get(row)], 0) for row in sorted(code)]
    found += [(lines[row][start:].lstrip("#"), 1) for row, start in comments.items()]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            found += [(x, 2) for x in (ast.get_docstring(node) or "").splitlines()]
    return found


def read(folder):
    """Reads the lines of all source files in a folder.

    Args:
        folder: path of the folder.

    Returns:
        A dict with a list for each split. A list has a pair for each line: its words
        and the number of its class. It has the same number of lines for each class. All
        lines of a file are in the same split, and no line occurs twice.
    """
    splits = {name: [[] for _ in CLASSES] for name in ("train", *SPLITS.values())}
    seen = set()
    for path in sorted(Path(folder).glob("*.py")):
        split = splits[SPLITS.get(zlib.crc32(path.name.encode()) % 10, "train")]
        for text, label in lines_of(path):
            words = tuple(WORD.findall(text))
            if len(words) >= SHORTEST and words not in seen:
                seen.add(words)
                split[label].append((words, label))
    rng = np.random.default_rng(0)
    for split in splits.values():
        for lines in split:
            rng.shuffle(lines)
    # The classes alternate, until the smallest class has no more lines.
    return {
        name: [line for group in zip(*split, strict=False) for line in group]
        for name, split in splits.items()
    }


class Batches(keras.utils.PyDataset):
    """A dataset of batches, each padded to the length of its longest line.

    Args:
        examples: pairs of the words of a line and the number of its class.
        batch_size: number of lines in a batch.
        seed: seed of the order of the lines, which differs from epoch to epoch. With
            `None` the lines are not shuffled.
        epoch: number of the first epoch.
    """

    def __init__(self, examples, batch_size, seed=None, epoch=0):
        super().__init__()
        self.ids = [
            [1 + zlib.crc32(word.encode()) % IDS for word in words]
            for words, _ in examples
        ]
        self.labels = np.array([label for _, label in examples])
        self.batch_size, self.seed, self.epoch = batch_size, seed, epoch - 1
        self.on_epoch_end()

    def __len__(self):
        return -(-len(self.ids) // self.batch_size)

    def __getitem__(self, index):
        chosen = self.order[index * self.batch_size :][: self.batch_size]
        lines = [self.ids[number] for number in chosen]
        # JAX compiles the model again for each new length.
        length = -(-max(map(len, lines)) // ROUND) * ROUND
        if index == 0:
            # With TensorFlow, Keras fixes an axis that has the same size in the first
            # two batches. The length must not be fixed.
            length = max(map(len, self.ids)) + ROUND
        ids = [line + [0] * (length - len(line)) for line in lines]
        return np.array(ids, "int32"), self.labels[chosen]

    def on_epoch_end(self):
        self.epoch += 1
        self.order = np.arange(len(self.ids))
        if self.seed is not None:
            # The order of an epoch is the same in a resumed run.
            np.random.default_rng((self.seed, self.epoch)).shuffle(self.order)


def draw_words(model, examples):
    """Draws lines of text, each word shaded by its coupling to the longest capsule.

    Args:
        model: the trained network.
        examples: pairs of the words of a line and the number of its class.

    Returns:
        The figure.
    """
    embedding, capsules = model.get_layer("words"), model.get_layer("classes")
    ids, _ = Batches(examples, len(examples))[0]
    lengths = keras.ops.convert_to_numpy(model(ids))
    trace = capsules.trace(embedding(ids), mask=embedding.compute_mask(ids))
    shares = keras.ops.convert_to_numpy(trace["weights"][-1])  # (lines, classes, words)
    longest = lengths.argmax(-1)
    shares = shares[np.arange(len(ids)), longest]

    size = (0.087 * (WIDEST + 38), 0.35 * len(ids) + 1.2)
    figure = Figure(figsize=size, layout="constrained", dpi=120)
    axis = figure.subplots()
    axis.set(xlim=(-38, WIDEST), ylim=(len(ids), -1.5))
    axis.axis("off")
    font = {"family": "monospace", "size": 10, "va": "center"}
    axis.text(-38, -1, "class          longest capsule", weight="bold", **font)
    colors = ScalarMappable(cmap="Blues")
    colors.set_clim(0.0, shares[ids > 0].max())
    for row, (words, label) in enumerate(examples):
        names = f"{CLASSES[label]:15}{CLASSES[longest[row]]:15}"
        axis.text(-38, row, f"{names}{lengths[row].max():.2f}", **font)
        left = 0
        for word, share in zip(words, shares[row], strict=False):
            axis.barh(row, len(word), 0.8, left, color=colors.to_rgba(share))
            color = "white" if colors.norm(share) > 0.6 else "black"
            axis.text(left, row, word, color=color, **font)
            left += len(word) + 1
    label = "coupling of the word to the longest capsule"
    bar = {"orientation": "horizontal", "aspect": 60, "label": label}
    figure.colorbar(colors, ax=axis, **bar)
    return figure


def positive(text):
    """Converts a text to an integer of at least 1."""
    if int(text) < 1:
        raise ValueError
    return int(text)


def main():
    callbacks.exit_cleanly("--resume goes on from the last finished epoch.")

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--limit", type=positive, help="use only this many lines of each split")
    # With the other routings the length of a capsule is not the score of its class.
    routings = ["self_attention", "dynamic", "uniform"]
    add("--routing", choices=routings, default="self_attention")
    add("--epochs", type=positive, default=3)
    add("--batch-size", type=positive, default=64)
    add("--seed", type=int, default=0)
    add("--output", type=Path, default=Path("runs/text"), help="output folder")
    add("--resume", action="store_true", help="continue the run in --output")
    args = parser.parse_args()

    if args.limit is not None and args.limit < FEWEST:
        parser.error(f"--limit must be at least {FEWEST}")
    output = args.output
    try:
        finished = len(callbacks.Checkpoint.history_of(output))
    except ValueError as error:
        parser.error(str(error))
    if finished and not args.resume:
        parser.error(f"{output} holds a run: add --resume, or choose another --output")
    keras.utils.set_random_seed(args.seed)

    # Data.
    folder = sysconfig.get_paths()["stdlib"]
    splits = {name: lines[: args.limit] for name, lines in read(folder).items()}
    if not all(splits.values()):
        sys.exit(f"{folder} holds too few sources of Python.")
    train = Batches(splits["train"], args.batch_size, args.seed, epoch=finished)
    validation = Batches(splits["validation"], args.batch_size)
    test = Batches(splits["test"], args.batch_size)

    # Model.
    words = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(1 + IDS, 16, mask_zero=True, name="words")(words)
    x = layers.DigitCapsule(
        len(CLASSES), 16, routing=args.routing, share_kernel=True, name="classes"
    )(x)
    model = keras.Model(words, layers.CapsuleLength()(x))
    model.summary()

    # Training. The learning rate decays to zero.
    optimizer = keras.optimizers.Adam(
        keras.optimizers.schedules.CosineDecay(0.002, args.epochs * len(train))
    )
    model.compile(optimizer, loss=losses.MarginLoss(), metrics=["accuracy"])

    checkpoint = callbacks.Checkpoint(output)
    try:
        checkpoint.restore(model)
    except ValueError as error:
        sys.exit(f"Can't resume: {error}")
    if finished:
        print(f"Going on after epoch {finished}.")
    # The metrics.json of an earlier, shorter training would be wrong.
    (output / "metrics.json").unlink(missing_ok=True)
    try:
        model.fit(
            train,
            validation_data=validation,
            initial_epoch=finished,
            epochs=args.epochs,
            shuffle=False,  # `Batches` shuffles the lines
            callbacks=[checkpoint],
        )
    except ValueError as error:
        sys.exit(str(error))

    # Results of the best epoch.
    print("Test lines:")
    best = keras.saving.load_model(output / "best.keras")
    right = best.predict(test).argmax(-1) == test.labels
    shown = []
    for label in range(len(CLASSES)):
        lines = [line for line in splits["test"] if line[1] == label]
        shown += [line for line in lines if len(" ".join(line[0])) <= WIDEST][:SHOWN]
    plotting.curves(checkpoint.history).savefig(output / "curves.png")
    draw_words(best, shown).savefig(output / "words.png")

    accuracy = float(right.mean())
    results = {
        "train_lines": len(splits["train"]),
        "test_lines": len(splits["test"]),
        "test_accuracy": accuracy,
        "test_error": 1.0 - accuracy,
        "epochs": len(checkpoint.history),
        "parameters": best.count_params(),
        "seconds": sum(row["seconds"] for row in checkpoint.history),
    }
    for label, name in enumerate(CLASSES):
        results[f"{name}_accuracy"] = float(right[test.labels == label].mean())
    settings = {**vars(args), "output": str(output)}
    with files.replaced(output / "metrics.json") as unfinished:
        unfinished.write_text(json.dumps({**settings, **results}, indent=1))
    print()
    for name, value in results.items():
        text = f"{value:.4f}" if isinstance(value, float) else value
        print(f"{name:>22}  {text}")
    print(f"{'files':>22}  {output}: {', '.join(sorted(os.listdir(output)))}")


if __name__ == "__main__":
    main()
