"""Tells code, comments and documentation apart by their words, however many there are.

    python examples/classify_text.py
    python examples/classify_text.py --routing dynamic --output runs/text_dynamic

The lines are those of Python's own sources: nothing is downloaded. All words share one
kernel, so that a line may have any number of them, and a mask leaves the padding out.
The output folder gets metrics.json, history.csv, the best model and pictures; in
words.png each word is as dark as the share of it that the capsule of the class gets.
Stop it whenever you like: --resume goes on after the last finished epoch.
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
# Imports can swallow the exception that Ctrl-C raises; nothing is lost yet.
if __name__ == "__main__" and (
    signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import keras
import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_capsules import callbacks, files, layers, losses, plotting, routing

SPLITS = ("train", "validation", "test")
CLASSES = ("code", "comment", "documentation")
WORD = re.compile(r"\w+|[^\w\s]")
SHORTEST = 4  # words of a line
IDS = 5000  # of words; 0 is padding
ROUND = 16  # the length of a batch is a multiple
SHOWN, WIDEST = 2, 60  # lines of each class in words.png, and letters of a line


def labelled_lines(path):
    """The lines of a source file, as pairs of a text and the number of its class."""
    with tokenize.open(path) as file:
        source = file.read()
    code, comments = set(), {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        row, column = token.start
        if token.type == tokenize.COMMENT:
            comments[row] = column
        elif token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.OP):
            code.add(row)
    lines = ["", *source.split("\n")]  # rows count from 1
    found = [(lines[row][: comments.get(row)], 0) for row in sorted(code)]
    found += [(lines[row][at:].lstrip("#"), 1) for row, at in comments.items()]
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented):
            found += [(x, 2) for x in (ast.get_docstring(node) or "").splitlines()]
    return found


def split_of(path):
    """A tenth of the files are for validation, a tenth for tests."""
    return {0: "test", 1: "validation"}.get(zlib.crc32(path.name.encode()) % 10, "train")


def read(folder):
    """The lines of all source files in a folder, as lists of words with their class.

    Returns:
        For each split a list of pairs, as many of each class. All lines of a file are
        in one split, and none is there twice.
    """
    found = {split: [[] for _ in CLASSES] for split in SPLITS}
    seen = set()
    for path in sorted(Path(folder).glob("*.py")):
        for text, label in labelled_lines(path):
            words = tuple(WORD.findall(text))
            if len(words) >= SHORTEST and words not in seen:
                seen.add(words)
                found[split_of(path)][label].append((words, label))
    rng = np.random.default_rng(0)
    for classes in found.values():
        for examples in classes:
            rng.shuffle(examples)
    return {
        split: [x for one_of_each in zip(*classes) for x in one_of_each]
        for split, classes in found.items()
    }

