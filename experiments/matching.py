"""Compares the errors of two networks on novel images at equal errors on familiar ones.

As in the papers, the CNN is compared at the epoch with the best validation result, and
the capsules at the epoch whose error on familiar test images is closest to the error of
the CNN. The familiar test images therefore choose an epoch, and the error of the
capsules on them only tells how well the networks match. Novel images are not used to
choose anything.
"""

import keras

from experiments.runs import Run
from experiments.tables import PAPER

# Number of novel images that are tested after each epoch. The compared networks are
# tested on all novel images.
SAMPLE = 2_000


def test_errors(model, familiar, novel, callbacks=None):
    """Returns the errors of a network on familiar and on novel test images.

    Args:
        model: the network.
        familiar: batches of familiar test images.
        novel: batches of novel test images.
        callbacks: callbacks of `evaluate`.
    """
    errors = {}
    for name, batches in {"familiar_error": familiar, "novel_error": novel}.items():
        results = model.evaluate(
            batches, verbose=0, callbacks=callbacks, return_dict=True
        )
        errors[name] = 1.0 - results["accuracy"]
    return errors


class TestErrors(keras.callbacks.Callback):
    """A callback that adds the errors on test images to the logs of an epoch.

    The network is tested with the moving averages of its weights.

    Args:
        familiar: batches of familiar test images.
        novel: batches of novel test images.
        match: error on familiar images that should be matched. The logs get the
            absolute difference from it as `mismatch`. By default they do not.
    """

    def __init__(self, familiar, novel, match=None):
        super().__init__()
        self.tests = familiar, novel
        self.match = match

    def on_epoch_end(self, epoch, logs):
        averages = keras.callbacks.SwapEMAWeights()
        logs |= test_errors(self.model, *self.tests, [averages])
        if self.match is not None:
            logs["mismatch"] = abs(logs["familiar_error"] - self.match)


def compare(output, results, settings, resume, load, cnn, capsules):
    """Trains both networks and compares them.

    The CNN is trained first, to its last epoch, because the capsules match its error.

    Args:
        output: output folder; each training has a subfolder.
        results: file of the results of an earlier call. It is deleted once a training
            begins, since it may be of fewer epochs.
        settings: as for `Run`, with the number of `epochs`. `cnn_epochs` is the number
            of epochs of the CNN if it differs.
        resume: as for `Run`.
        load: function that takes a seed and returns four data sets: for training,
            validation, the test on familiar images and the test on novel images.
        cnn: function that takes the shape of an image and the number of batches in
            the whole training, and returns the compiled CNN.
        capsules: function that takes the same arguments, and returns the compiled
            capsule network and a list of callbacks.

    Returns:
        A dict of `Run.summary` at the compared epoch by the name of the network,
        `"cnn"` or `"capsules"`. `last` in it holds the errors after the last epoch.
    """
    runs = {}

    def train(name, build, count, match=None, **best):
        print(f"\n{name}, {output.name}")
        runs[name] = run = Run(output / name, settings, resume)
        train, validation, *tests = run.batches(lambda: load(run.seed))
        results.unlink(missing_ok=True)
        image_shape = tuple(train.element_spec[0].shape[1:])
        model, others = build(image_shape, count * len(train))
        familiar, novel = tests
        sample = novel.take(-(-SAMPLE // settings["batch_size"]))
        errors = TestErrors(familiar, sample, match)
        run.fit(model, train, validation, count, [*others, errors], **best)
        return tests

    cnn_epochs = settings.get("cnn_epochs") or settings["epochs"]
    train("cnn", lambda *arguments: (cnn(*arguments), []), cnn_epochs)
    match = runs["cnn"].best_epoch["familiar_error"]
    tests = train("capsules", capsules, settings["epochs"], match, monitor="mismatch")

    metrics = {}
    for name, run in runs.items():
        model = run.best()
        errors = {**run.best_epoch, **test_errors(model, *tests)}
        last = keras.saving.load_model(run.output / "last.keras")
        errors["last"] = test_errors(last, *tests)
        metrics[name] = run.summary(model, errors)
    return metrics


def epochs(networks):
    """Returns the epochs of both networks, for `plotting.viewpoint_errors`.

    The errors of the compared epoch are measured on all images.

    Args:
        networks: the result of `compare`.
    """
    found = []
    for name in ("cnn", "capsules"):
        network = networks[name]
        for epoch in network["history"]:
            compared = epoch["epoch"] == network["epoch"]
            errors = network if compared else epoch
            found.append(
                {
                    "model": name,
                    "familiar_error": errors["familiar_error"],
                    "novel_error": errors["novel_error"],
                    "compared": compared,
                }
            )
    return found


def report(metrics, kinds):
    """Prints the results as a table, with the errors of the paper.

    Args:
        metrics: results of `compare`, by the key in `PAPER` for the kind of novelty.
        kinds: names of familiar and novel images in the table, by the names of errors.
    """
    print(f"{'test error in %':38}{'CNN':>10}{'paper':>8}{'capsules':>12}{'paper':>8}")
    for novel, networks in metrics.items():
        for error, kind in kinds.items():
            paper = PAPER[novel][error]
            cnn, capsules = (100.0 * networks[name][error] for name in paper)
            print(
                f"{f'{novel}, {kind}':38}"
                f"{cnn:10.1f}{paper['cnn']:8.1f}{capsules:12.1f}{paper['capsules']:8.1f}"
            )
        for error, kind in kinds.items():
            cnn, capsules = (
                100.0 * networks[name]["last"][error] for name in ("cnn", "capsules")
            )
            label = f"{novel}, {kind}, after the last epoch"
            print(f"{label:38}{cnn:10.1f}{'–':>8}{capsules:12.1f}{'–':>8}")
