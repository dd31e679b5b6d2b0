"""The tables of docs/results.md: their commands, and the errors that others report."""

from typing import NamedTuple


class Row(NamedTuple):
    """A row of a table.

    Attributes:
        label: text of the first column.
        run: name of a run, a key of `RUNS`.
        paper: error that the paper reports, in per cent.
        best_open: error that the best open code reports, in per cent.
        value: path of the error, from 0 to 1, in the metrics of a network. Its parts
            are separated by dots.
        network: path of the network in the metrics of the run; empty if the run has a
            single network.
    """

    label: str
    run: str
    paper: float | None = None
    best_open: float | None = None
    value: str = "test_error"
    network: str = ""


class Table(NamedTuple):
    """A table.

    Attributes:
        rows: rows of the table.
        others: names of runs that the table needs, but that have no row.
        routing: whether a second table describes the routing of each layer.
    """

    rows: tuple[Row, ...] = ()
    others: tuple[str, ...] = ()
    routing: bool = False

    @property
    def runs(self):
        """The names of all runs of the table, in order."""
        return list(dict.fromkeys([*(row.run for row in self.rows), *self.others]))


def capsnet(flags):
    return f"python -m experiments.train capsnet {flags} --precision mixed_bfloat16"


def matrix_capsnet(flags):
    return f"python -m experiments.train matrix_capsnet {flags} --variant small"


def ensemble(run):
    """Returns the command that tests the networks of seeds 0, 1 and 2 together."""
    networks = (f"{{{run}}}{seed}/best.keras" for seed in ("", "_seed1", "_seed2"))
    return f"python -m experiments.ensemble --dataset mnist {' '.join(networks)}"


# Number of toys with the largest errors that are listed apart from the others.
MISTAKEN = 3

MNIST = "--dataset mnist --variant small --epochs 60"
TOYS = "--dataset toys/full --epochs 6"
# Small enough that three seeds of each ablation take an afternoon on a CPU.
ABLATION = (
    "python -m experiments.train matrix_capsnet --dataset toys/full --batch-size 32 "
    "--epochs 3 --variant 32,4,8,8"
)
VIEWPOINTS = "python -m experiments.novel_viewpoints --iterations 1"
LONG_CNN = "--dataset toys/full --epochs 8 --cnn-epochs 24"
ETH80 = "--dataset eth80 --batch-size 16"
CIFAR10 = (
    "python -m experiments.train residual --dataset cifar10 --epochs 24 "
    "--precision mixed_bfloat16"
)
EFFICIENT = "python examples/train_efficient_capsnet.py"
ATTACK = "python examples/adversarial_robustness.py --images 1000"

# Commands by the names of their runs. `{NAME}` is replaced by the folder of that run.
RUNS = {
    "mnist_1": capsnet(f"{MNIST} --iterations 1 --no-reconstruction"),
    "mnist_1_reconstruction": capsnet(f"{MNIST} --iterations 1"),
    "mnist_3": capsnet(f"{MNIST} --iterations 3 --no-reconstruction"),
    "mnist_3_reconstruction": capsnet(f"{MNIST} --iterations 3"),
    # In float32, for CPUs without bfloat16.
    "mnist_short": "python -m experiments.train capsnet --dataset mnist "
    "--variant small --epochs 15",
    "mnist_paper": capsnet("--dataset mnist --epochs 20"),
    "mnist_paper_60": capsnet("--dataset mnist --epochs 60"),
    "mnist_cnn": "python -m experiments.train cnn --dataset mnist --epochs 20",
    "mnist_em": matrix_capsnet("--dataset mnist --batch-size 32 --epochs 8"),
    "mnist_efficient": f"{EFFICIENT} --dataset mnist --batch-size 32 --epochs 25",
    "mnist_convolutional": "python -m experiments.train convolutional "
    "--dataset mnist --distorted --epochs 40",
    "mnist_ensemble": ensemble("mnist_efficient"),
    "mnist_convolutional_ensemble": ensemble("mnist_convolutional"),
    "multi_mnist": capsnet(
        "--dataset multi_mnist --variant small --epochs 60 --batch-size 32 "
        "--learning-rate 0.003"
    ),
    "multi_mnist_paper": capsnet("--dataset multi_mnist --epochs 100 --batch-size 128"),
    # On a GPU; several calls with --resume make a longer run.
    "multi_mnist_long": "python -m experiments.long_run --minutes 9",
    "multi_mnist_convolutional": "python -m experiments.train convolutional "
    "--dataset multi_mnist --batch-size 64 --epochs 48 --precision mixed_bfloat16",
    "multi_mnist_cnn": "python -m experiments.train cnn --dataset multi_mnist "
    "--epochs 60 --precision mixed_bfloat16",
    "aff_mnist": "python -m experiments.affine_robustness --epochs 10 --cnn-epochs 3 "
    "--precision mixed_bfloat16",
    "toys_cnn": "python -m experiments.train cnn --dataset toys/full --epochs 10",
    "toys_1": matrix_capsnet(f"{TOYS} --iterations 1"),
    "toys_3": matrix_capsnet(f"{TOYS} --iterations 3"),
    "toys_mistakes": "python -m experiments.mistaken_toys --dataset toys/full "
    "{toys_cnn}/best.keras {toys_1}/best.keras {toys_3}/best.keras",
    "ablation_1": f"{ABLATION} --iterations 1",
    "ablation_2": f"{ABLATION} --iterations 2",
    "ablation_3": f"{ABLATION} --iterations 3",
    "ablation_no_coordinates": f"{ABLATION} --no-coordinate-addition",
    "ablation_margin": f"{ABLATION} --loss margin",
    "ablation_cross_entropy": f"{ABLATION} --loss cross_entropy",
    # With the learning rate of the others it diverges.
    "ablation_variational_bayes": f"{ABLATION} --routing variational_bayes "
    "--learning-rate 0.003",
    "azimuth": f"{VIEWPOINTS} {LONG_CNN} --novel azimuth",
    "elevation": f"{VIEWPOINTS} {LONG_CNN} --novel elevation",
    "eth80_azimuth": f"{VIEWPOINTS} {ETH80} --novel azimuth --epochs 60",
    "eth80_elevation": f"{VIEWPOINTS} {ETH80} --novel elevation --epochs 20",
    "eth80_cnn": f"python -m experiments.train cnn {ETH80} --epochs 20",
    "eth80_1": matrix_capsnet(f"{ETH80} --epochs 20 --iterations 1"),
    "eth80_3": matrix_capsnet(f"{ETH80} --epochs 20"),
    "cifar10": f"{CIFAR10} --routing inverted_attention",
    "cifar10_dense": f"{CIFAR10} --routing dense",
    "mnist_attacks": f"{ATTACK} --dataset mnist "
    "--capsules {mnist_3_reconstruction}/best.keras --cnn {mnist_cnn}/best.keras",
    "toys_attacks": f"{ATTACK} --dataset toys/full "
    "--capsules {toys_3}/best.keras --cnn {toys_cnn}/best.keras",
    "smallnorb_cnn": "python -m experiments.train cnn --dataset smallnorb --epochs 10",
    "smallnorb_small": matrix_capsnet("--dataset smallnorb --epochs 20"),
}


# Errors that the papers report, in per cent: on smallNORB, on affNIST, and on unchanged
# digits on the canvas of affNIST.
PAPER = {
    "azimuth": {
        "novel_error": {"cnn": 20.0, "capsules": 13.5},
        "familiar_error": {"cnn": 3.7, "capsules": 3.7},
    },
    "elevation": {
        "novel_error": {"cnn": 17.8, "capsules": 12.3},
        "familiar_error": {"cnn": 4.3, "capsules": 4.3},
    },
    "affine": {
        "novel_error": {"cnn": 34.0, "capsules": 21.0},
        "familiar_error": {"cnn": 0.78, "capsules": 0.77},
    },
}


def compared(run, novel, kinds, folder=""):
    """Returns the rows of a CNN and a capsule network that one run compares.

    Args:
        run: name of the run.
        novel: key in `PAPER` of the errors of the paper, if there are any.
        kinds: names of novel and familiar images, by the name of the error.
        folder: path of both networks in the metrics of the run.
    """
    return tuple(
        Row(f"{kind}, {label}", run, paper, None, error, f"{folder}{name}")
        for error, kind in kinds.items()
        for name, label in {"cnn": "CNN", "capsules": "capsules"}.items()
        for paper in [PAPER.get(novel, {}).get(error, {}).get(name)]
    )


def viewpoints(prefix=""):
    """Returns the rows of novel viewpoints, at the compared and at the last epoch.

    Args:
        prefix: prefix of the names of the runs.
    """
    rows = ()
    for novel in ("azimuth", "elevation"):
        kinds = {f"{kind}_error": f"{kind} {novel}s" for kind in ("novel", "familiar")}
        last = {f"last.{error}": f"{kind}, last epoch" for error, kind in kinds.items()}
        rows += compared(f"{prefix}{novel}", prefix + novel, kinds | last, f"{novel}.")
    return rows


TABLES = {
    "mnist": Table(
        (
            Row("1 iteration", "mnist_1", 0.34, 0.39),
            Row("1 iteration, reconstruction", "mnist_1_reconstruction", 0.29, 0.36),
            Row("3 iterations", "mnist_3", 0.35, 0.40),
            Row("3 iterations, reconstruction, short", "mnist_short", 0.25, 0.34),
            Row("3 iterations, reconstruction", "mnist_3_reconstruction", 0.25, 0.34),
            Row("the same, the paper's widths", "mnist_paper", 0.25, 0.34),
            Row("the paper's widths, 60 epochs", "mnist_paper_60", 0.25, 0.34),
            Row("CNN", "mnist_cnn", 0.39),
        ),
    ),
    "mnist_em": Table((Row("EM routing, 69 K parameters", "mnist_em", 0.44),)),
    "mnist_efficient": Table((Row("EfficientCapsNet", "mnist_efficient", 0.26),)),
    "mnist_convolutional": Table(
        (Row("four convolutions, self-attention", "mnist_convolutional"),)
    ),
    "mnist_ensemble": Table(
        (
            Row("three EfficientCapsNets", "mnist_ensemble"),
            Row("three networks of four convolutions", "mnist_convolutional_ensemble"),
        )
    ),
    "multi_mnist": Table(
        (
            Row("CNN", "multi_mnist_cnn", 8.1),
            Row("capsules, 3 iterations, reconstruction", "multi_mnist", 5.2),
            Row("the same, the paper's widths", "multi_mnist_paper", 5.2),
            Row("the paper's widths, long run", "multi_mnist_long", 5.2),
            Row("four convolutions, self-attention", "multi_mnist_convolutional"),
        )
    ),
    "aff_mnist": Table(
        compared(
            "aff_mnist",
            "affine",
            {"novel_error": "changed digits", "familiar_error": "unchanged digits"},
        )
    ),
    "toys": Table(
        (
            Row("CNN, 4.2 M parameters", "toys_cnn", 5.2),
            Row("capsules, 67 K parameters", "toys_3", 2.2, 6.3),
        ),
        others=("toys_1", "toys_mistakes"),
    ),
    "viewpoints": Table(viewpoints()),
    "eth80": Table(
        (
            Row("unseen objects, CNN", "eth80_cnn"),
            Row("unseen objects, capsules, 1 iteration", "eth80_1"),
            Row("unseen objects, capsules, 3 iterations", "eth80_3"),
            *viewpoints("eth80_"),
        )
    ),
    "ablations": Table(
        (
            Row("1 iteration", "ablation_1", 9.7),
            Row("2 iterations", "ablation_2", 2.2, 4.6),
            Row("3 iterations", "ablation_3", 1.8, 6.3),
            Row("no coordinate addition", "ablation_no_coordinates", 2.6),
            Row("margin loss", "ablation_margin", 3.2),
            Row("cross-entropy", "ablation_cross_entropy", 5.8),
            Row("variational Bayes routing", "ablation_variational_bayes"),
        ),
        routing=True,
    ),
    "cifar10": Table(
        (
            Row("JPEG copy, residual network, dense layer", "cifar10_dense"),
            Row("JPEG copy, residual network, capsules", "cifar10"),
        ),
    ),
    "attacks": Table(
        others=(
            *("mnist_3_reconstruction", "mnist_cnn", "mnist_attacks"),
            *("toys_3", "toys_cnn", "toys_attacks"),
        )
    ),
    "smallnorb": Table(
        (
            Row("CNN, 4.2 M parameters", "smallnorb_cnn", 5.2),
            Row("capsules, 67 K parameters", "smallnorb_small", 2.2, 6.3),
        )
    ),
}
