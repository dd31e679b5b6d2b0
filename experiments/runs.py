"""Runs that can be stopped and resumed, and other functions for all experiments.

A run has a folder. During the training it contains settings.json, last.keras,
best.keras and history.csv. After the training metrics.json and figures are added.
"""

import importlib.util
import json
import os
import platform
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras

import keras_capsules
from experiments.flags import PRECISIONS, natural, positive
from keras_capsules import callbacks, datasets, files, plotting

DIGITS = ("digits", "mnist")  # centred digits from 0 to 1
# Loaders of pictures with pixels from 0 to 1, which are shifted and mirrored at random.
PICTURES = {"fashion_mnist": datasets.fashion_mnist, "cifar10": datasets.cifar10}
# Names of toys for TensorFlow Datasets. Images are cropped at random and standardized.
TOYS = {"toys": "toys/small", "toys/full": "toys/full", "smallnorb": "smallnorb"}
# Names for `datasets.viewpoint_split` of the data sets with known viewpoints.
VIEWPOINTS = {**TOYS, "eth80": "eth80"}
CLASSES = {**dict.fromkeys(TOYS, 5), "eth80": 8}  # the others have 10


def load(dataset, data_dir, seed=0, own_images=False):
    """Loads the splits of a data set.

    Args:
        dataset: name of the data set on the command line.
        data_dir: folder of the data; `None` for the default folder.
        seed: seed of everything random in the data set.
        own_images: whether the labels of overlapping digits also contain the separate
            image of each digit.
    """
    loaders = {
        "digits": datasets.digits,
        "mnist": lambda: datasets.mnist(data_dir),
        "multi_mnist": lambda: datasets.multi_mnist(
            data_dir, seed, own_images=own_images
        ),
        "aff_mnist": lambda: datasets.aff_mnist(data_dir, seed),
        **{name: partial(loader, data_dir) for name, loader in PICTURES.items()},
        "toys": lambda: datasets.toys("small", data_dir, seed=seed),
        "toys/full": lambda: datasets.toys("full", data_dir, seed=seed),
        "smallnorb": lambda: datasets.smallnorb(data_dir, seed=seed),
        "eth80": lambda: datasets.eth80(data_dir, seed=seed),
    }
    return loaders[dataset]()


def contents(dataset):
    """Returns the number of classes, and the number of objects in an image."""
    return {
        "classes": CLASSES.get(dataset, 10),
        "objects": 2 if dataset == "multi_mnist" else 1,
    }


def write_json(path, content):
    """Writes a JSON file atomically."""
    with files.replaced(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1) + "\n")


def add_flags(parser, folder, names):
    """Adds the flags that all trainings have in common.

    Args:
        parser: the argument parser.
        folder: beginning of the default name of the output folder.
        names: names of the data sets; the first is the default.
    """
    add = parser.add_argument
    add(
        "--dataset",
        choices=names,
        default=names[0],
        help=f"digits and toys need no download (default: {names[0]})",
    )
    add("--data-dir", help="folder of TensorFlow Datasets data, or of ETH-80")
    add("--epochs", type=positive, default=10)
    add("--batch-size", type=positive, default=64)
    add("--limit", type=positive, help="use only this many images of each split")
    add(
        "--output",
        type=Path,
        help=f"folder (default: runs/{folder}_DATASET)",
    )
    add(
        "--resume",
        action="store_true",
        help="continue the run in --output after the last finished epoch",
    )
    add("--seed", type=natural, default=0)
    add(
        "--precision",
        choices=PRECISIONS,
        default="float32",
    )


def networks_of(parser, folder, names):
    """Parses the flags of a script that analyses trained networks.

    Args:
        parser: the argument parser.
        folder: beginning of the default name of the output folder.
        names: names of the data sets.

    Returns:
        The flags. `networks` is a dict of the paths by the names of their folders.
    """
    add = parser.add_argument
    add("networks", type=Path, nargs="+", help="FOLDER/best.keras files")
    add("--dataset", choices=names, default=next(iter(names)))
    add("--data-dir", help="folder of TensorFlow Datasets, or of ETH-80")
    add("--output", type=Path, help=f"default: runs/{folder}_DATASET")
    args = parser.parse_args()
    folders = [path.parent.name for path in args.networks]
    if len(set(folders)) < len(folders):
        parser.error(
            f"networks must lie in folders of different names, received {folders}"
        )
    args.networks = dict(zip(folders, args.networks, strict=True))
    return args


def load_networks(paths):
    """Loads networks from a dict of paths, or exits if a file can't be read."""
    found = {}
    for name, path in paths.items():
        try:
            found[name] = keras.saving.load_model(path, compile=False)
        except Exception as error:  # damaged files raise many types of errors
            sys.exit(f"{path} can't be loaded ({type(error).__name__}: {error})")
    return found


def settings_of(args, *names):
    """Returns the settings that a resumed run must not change, those in `names` too."""
    names = ("dataset", *names, "limit", "batch_size", "seed")
    return {name: getattr(args, name) for name in names}


def folder_of(args, folder):
    """Returns the output folder; the name of the default begins with `folder`."""
    return args.output or Path(f"runs/{folder}_{args.dataset.replace('/', '_')}")


class Run:
    """A training in a folder.

    The constructor exits with a message if the folder can't be used.

    Args:
        output: the folder.
        settings: settings that a resumed run must not change, including `dataset`,
            `limit`, `batch_size` and `seed`.
        resume: whether to continue the run in the folder.
    """

    def __init__(self, output, settings, resume):
        self.output, self.settings, self.resume = output, settings, resume
        settings_file = output / "settings.json"
        try:
            output.mkdir(parents=True, exist_ok=True)
            self.history = callbacks.Checkpoint.history_of(output)
            begun = resume and settings_file.exists()
            kept = dict(json.loads(settings_file.read_text())) if begun else settings
            tempfile.TemporaryFile(dir=output).close()
        except (OSError, TypeError, ValueError) as error:
            sys.exit(f"Can't use --output {output}: {error}")
        if self.history and not resume:
            print(
                f"{output} holds a run: add --resume, or choose another --output",
                file=sys.stderr,
            )
            sys.exit(2)
        changed = [name for name in settings if kept.get(name) != settings[name]]
        if changed:
            before, now = (
                {name: made.get(name) for name in changed} for made in (kept, settings)
            )
            sys.exit(f"Can't resume: {output} was made with {before}. Received: {now}")
        if not self.history:
            write_json(settings_file, settings)
        # A resumed run must not see the order and the shifts of its first epoch again.
        self.seed = settings["seed"] + len(self.history)
        keras.utils.set_random_seed(self.seed)

    def batches(self, load, distorted=False):
        """Returns batches of each split that `load` returns.

        The first split is for training, and is shuffled. Centred digits in it are
        shifted at random by up to 2 pixels. Pictures are shifted by up to 4 pixels and
        mirrored at random.

        Args:
            load: function that loads the splits.
            distorted: whether centred digits are distorted by
                `datasets.random_distortion` instead of shifted.
        """
        limit, size = self.settings["limit"], self.settings["batch_size"]
        try:
            train, validation, *tests = (part.take(limit or -1) for part in load())
        except (OSError, ValueError) as error:
            sys.exit(str(error))
        self.images = len(train)
        train = train.shuffle(10_000, self.seed)
        if distorted:
            train = datasets.random_distortion(train, seed=self.seed)
        elif self.settings["dataset"] in DIGITS:
            train = datasets.random_shift(train, 2, self.seed)
        elif self.settings["dataset"] in PICTURES:
            train = datasets.random_shift(train, 4, self.seed)
            train = datasets.random_flip(train, self.seed)
        others = (part.batch(size) for part in (validation, *tests))
        return train.batch(size).prefetch(2), *others

    def fit(self, model, train, validation, epochs, others=(), **best):
        """Trains a compiled model, or continues the training in the folder.

        Args:
            model: the model, compiled with an optimizer that averages the weights. It
                is validated and saved with the averaged weights.
            train: training batches.
            validation: validation batches, which choose the best epoch.
            epochs: total number of epochs. A number that differs from that of the
                resumed run stretches the learning rate schedule.
            others: additional callbacks, which can add to the logs of an epoch.
            **best: criterion of the best epoch, arguments of `callbacks.Checkpoint`.
        """
        model.summary()
        checkpoint = callbacks.Checkpoint(self.output, **best)
        try:
            checkpoint.restore(model)
        except ValueError as error:
            sys.exit(f"Can't resume: {error}")
        if self.history:
            print(f"Going on after epoch {len(self.history)}.")
        elif self.resume:
            print(f"{self.output} holds no finished epoch: starting with the first.")
        (self.output / "metrics.json").unlink(missing_ok=True)  # of an earlier run
        try:
            model.fit(
                train,
                validation_data=validation,
                initial_epoch=len(self.history),
                epochs=epochs,
                callbacks=[*others, keras.callbacks.SwapEMAWeights(), checkpoint],
                shuffle=False,  # the data set is already shuffled
            )
        except ValueError as error:
            sys.exit(str(error))
        self.history, self.best_epoch = checkpoint.history, checkpoint.best_epoch

    def best(self):
        """Loads the model of the best epoch."""
        return keras.saving.load_model(self.output / "best.keras")

    def test(self, batches):
        """Returns the model of the best epoch, and its results on test images."""
        model = self.best()
        print("Test images:")
        accuracy = model.evaluate(batches, return_dict=True)["accuracy"]
        return model, {"test_accuracy": accuracy, "test_error": 1.0 - accuracy}

    def summary(self, model, results):
        """Returns the content of metrics.json.

        Args:
            model: the model of the best epoch.
            results: dict of results by name.
        """
        backend = keras.backend.backend()
        seconds = [row["seconds"] for row in self.history]
        return {
            **self.settings,
            **results,
            "epochs": len(self.history),
            "seconds": sum(seconds),
            "images_per_second": self.images / statistics.median(seconds),
            "parameters": model.count_params(),
            "precision": keras.config.dtype_policy().name,
            "history": self.history,
            "versions": {
                "python": platform.python_version(),
                "keras_capsules": keras_capsules.__version__,
                "keras": keras.version(),
                backend: importlib.import_module(backend).__version__,
            },
        }

    def report(self, model, results, pictures):
        """Writes and prints the results.

        Args:
            model: the model of the best epoch.
            results: dict of results by name.
            pictures: dict of figures by name.
        """
        results = self.summary(model, results)
        pictures = {"curves": plotting.curves(self.history), **pictures}
        for picture, figure in pictures.items():
            figure.savefig(self.output / f"{picture}.png")
        # It is written last, because its existence marks the run as finished.
        write_json(self.output / "metrics.json", results)

        print()
        files = ", ".join(sorted(path.name for path in self.output.iterdir()))
        results["files"] = f"{self.output}: {files}"
        del results["history"]
        for key, value in results.items():
            text = f"{value:.4f}" if isinstance(value, float) else value
            print(f"{key:>21}  {text}")
