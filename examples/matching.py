"""Two networks compared on novel images where they are equally good on familiar ones.

As in the papers: the CNN at the epoch that is best on the validation set, the capsules
at the epoch whose error on a sample of the familiar test images is nearest to the
CNN's. So these test images choose an epoch, and the capsules' error on them says only
how well they match. Novel ones choose nothing.
"""

import keras
from runs import Run

# So many test images of each kind say where an epoch stands; all of them are tested
# with the networks that are compared.
SAMPLE = 2_000


def test_errors(model, familiar, novel):
    """Errors of a network on familiar and on novel test images."""
    tests = {"familiar_error": familiar, "novel_error": novel}
    return {
        name: 1.0 - model.evaluate(batches, verbose=0, return_dict=True)["accuracy"]
        for name, batches in tests.items()
    }


class TestErrors(keras.callbacks.Callback):
    """Adds the errors on a sample of the test images to the logs of an epoch.

    Args:
        tests: batches of familiar and of novel test images.
        match: the familiar error to be matched; the logs get the distance from it,
            `mismatch`.
    """

    def __init__(self, tests, match=None):
        super().__init__()
        size = next(iter(tests[0]))[1].shape[0]
        self.tests = [batches.take(-(-SAMPLE // size)) for batches in tests]
        self.match = match

    def on_epoch_end(self, epoch, logs):
        logs |= test_errors(self.model, *self.tests)
        if self.match is not None:
            logs["mismatch"] = abs(logs["familiar_error"] - self.match)


def compare(output, settings, resume, load, cnn, capsules):
    """Trains both networks and compares them.

    Args:
        output: folder; each training gets one in it.
        settings: as for `Run`, with the number of `epochs`: the capsules match a CNN
            that is trained to its end.
        resume: as for `Run`.
        load: function that takes a seed and returns what to train on, to validate,
            and to test: familiar and novel images.
        cnn: function that takes the shape of an image and the number of batches in
            the whole training and returns the CNN, compiled.
        capsules: the same for the capsules, returning callbacks too.

    Returns:
        What `Run.summary` says of each network at its epoch, by its name.
    """
    runs, chosen = {}, {}

    def train(name, build, match=None, **best):
        print(f"\n{name}, {output.name}")
        run = runs[name] = Run(output / name, settings, resume)
        train, validation, *tests = run.batches(lambda: load(run.seed))
        image_shape = tuple(train.element_spec[0].shape[1:])
        model, others = build(image_shape, settings["epochs"] * len(train))
        errors = TestErrors(tests, match)
        run.fit(model, train, validation, settings["epochs"], [*others, errors], **best)
        rank = best.get("monitor", "val_loss")
        chosen[name] = min(run.history, key=lambda epoch: epoch[rank])
        return tests

    train("cnn", lambda *arguments: (cnn(*arguments), []))
    match = chosen["cnn"]["familiar_error"]
    tests = train("capsules", capsules, match, monitor="mismatch")

    metrics = {}
    for name, run in runs.items():
        model = run.best()
        chosen[name] |= test_errors(model, *tests)
        metrics[name] = run.summary(model, chosen[name])
    return metrics


def epochs(networks):
    """The epochs of networks, as `plotting.viewpoint_errors` draws them.

    Args:
        networks: what `compare` returns.
    """
    return [
        {"model": name, **epoch, "compared": epoch["epoch"] == network["epoch"]}
        for name in ("cnn", "capsules")
        for network in [networks[name]]
        for epoch in network["history"]
    ]


def report(metrics, published, kinds):
    """Prints the results as a table.

    Args:
        metrics: what `compare` returns, by what is novel.
        published: what a paper reports in per cent, under the same names.
        kinds: what familiar and novel images are called in the table.
    """
    print(f"{'test error in %':22}{'CNN':>10}{'paper':>8}{'capsules':>12}{'paper':>8}")
    for novel, networks in metrics.items():
        for error, kind in kinds.items():
            paper = published[novel][error]
            cnn, capsules = (100.0 * networks[name][error] for name in paper)
            print(
                f"{f'{novel}, {kind}':22}"
                f"{cnn:10.1f}{paper['cnn']:8.1f}{capsules:12.1f}{paper['capsules']:8.1f}"
            )
