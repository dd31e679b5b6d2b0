"""Two networks compared on novel images where they are equally good on familiar ones.

As in the papers: the CNN at the epoch that is best on the validation set, the capsules
at the epoch whose error on the familiar test images is nearest to the CNN's. So these
test images choose an epoch, and the capsules' error on them says only how well they
match. Novel ones choose nothing.
"""

import keras

from experiments.runs import Run
from experiments.tables import PAPER

# So many novel images say where an epoch stands; all of them are tested with the
# networks that are compared.
SAMPLE = 2_000


def test_errors(model, familiar, novel, callbacks=None):
    """Errors of a network on familiar and on novel test images."""
    errors = {}
    for name, batches in {"familiar_error": familiar, "novel_error": novel}.items():
        results = model.evaluate(
            batches, verbose=0, callbacks=callbacks, return_dict=True
        )
        errors[name] = 1.0 - results["accuracy"]
    return errors


class TestErrors(keras.callbacks.Callback):
    """Adds the errors on test images to the logs of an epoch.

    They are those of the averages of the weights.

    Args:
        familiar: batches of familiar test images.
        novel: batches of novel ones.
        match: the familiar error to be matched; the logs get the distance from it,
            `mismatch`.
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


def compare(output, settings, resume, load, cnn, capsules):
    """Trains both networks and compares them.

    Args:
        output: folder; each training gets one in it.
        settings: as for `Run`, with the number of `epochs`, and of `cnn_epochs` if the
            CNN has another: the capsules match a CNN that is trained to its end.
        resume: as for `Run`.
        load: function that takes a seed and returns what to train on, to validate,
            and to test: familiar and novel images.
        cnn: function that takes the shape of an image and the number of batches in
            the whole training and returns the CNN, compiled.
        capsules: the same for the capsules, returning callbacks too.

    Returns:
        What `Run.summary` says of each network at its epoch, by its name; `last` are
        its errors after the last epoch.
    """
    runs = {}

    def train(name, build, count, match=None, **best):
        print(f"\n{name}, {output.name}")
        runs[name] = run = Run(output / name, settings, resume)
        train, validation, *tests = run.batches(lambda: load(run.seed))
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
        results = {**run.best_epoch, **test_errors(model, *tests)}
        last = keras.saving.load_model(run.output / "last.keras")
        results["last"] = test_errors(last, *tests)
        metrics[name] = run.summary(model, results)
    return metrics


def epochs(networks):
    """The epochs of networks, as `plotting.viewpoint_errors` draws them.

    The epoch that is compared has the errors on all images.

    Args:
        networks: what `compare` returns.
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
    """Prints the results as a table, beside those of `PAPER`.

    Args:
        metrics: what `compare` returns, by what is novel.
        kinds: what familiar and novel images are called in the table.
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
