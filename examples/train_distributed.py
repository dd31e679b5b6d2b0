"""Trains a network with JAX in several processes, on one or several machines.

    python examples/train_distributed.py --coordinator localhost:4000 \\
        --processes 2 --process 0 &
    python examples/train_distributed.py --coordinator localhost:4000 \\
        --processes 2 --process 1
    srun python examples/train_distributed.py --network matrix_capsnet

Each process receives its part of every batch, and all processes have the same weights
after each batch. Under Slurm, Open MPI 4 and on TPU pods the processes are detected,
and each process uses one GPU of its machine. Elsewhere --coordinator, --processes and
--process describe them, and each process uses all GPUs of its machine.

All processes share the output folder. The first process writes metrics.json,
history.csv, figures and the best model; the others print nothing.

If a process is lost, the others stop. --resume continues the training after the last
finished epoch, with any number of processes.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

CHILD = "KERAS_CAPSULES_WATCHED"
FAILED = 70
PRECISIONS = ["float32", "mixed_bfloat16", "mixed_float16"]


def main():
    import jax
    import keras
    import numpy as np
    from jax.experimental import multihost_utils

    from keras_capsules import (
        callbacks,
        datasets,
        files,
        losses,
        models,
        plotting,
        routing,
    )

    callbacks.exit_cleanly("--resume goes on from the last finished epoch.")
    loaders = {
        "digits": datasets.digits,
        "mnist": lambda: datasets.mnist(args.data_dir),
        "toys": lambda: datasets.toys("small", args.data_dir, seed=seed),
        "toys/full": lambda: datasets.toys("full", args.data_dir, seed=seed),
    }
    networks = {"capsnet": models.CapsNet, "matrix_capsnet": models.MatrixCapsNet}

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--network", choices=networks, default="capsnet")
    add("--dataset", choices=loaders, default="digits")
    add("--data-dir", help="folder of TensorFlow Datasets data")
    add("--limit", type=int, default=-1, help="use only this many images of each split")
    add("--variant", choices=["paper", "small"], default="small", help="widths")
    add("--epochs", type=int, default=10)
    add("--batch-size", type=int, default=64, help="total over all devices")
    add("--precision", choices=PRECISIONS, default="float32")
    add("--seed", type=int, default=0)
    add("--output", type=Path, help="folder (default: runs/distributed_NETWORK)")
    add("--resume", action="store_true", help="continue the run in --output")
    add("--coordinator", help="HOST:PORT of process 0")
    add("--processes", type=int, help="number of processes")
    add("--process", type=int, help="index of this process, from 0")
    args = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error("several processes need JAX: set KERAS_BACKEND=jax")

    # keras.distribution.initialize does the same, but detects a lost process only after
    # 100 s.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        jax.distributed.initialize(
            args.coordinator,
            args.processes,
            args.process,
            heartbeat_timeout_seconds=15,
        )
    except (RuntimeError, TypeError, ValueError) as error:
        sys.exit(
            f"Can't join the other processes: {error} Pass --coordinator, --processes "
            "and --process, or start under Slurm, Open MPI 4 or on a TPU pod."
        )
    process, processes = jax.process_index(), jax.process_count()
    devices = jax.device_count()
    if args.batch_size % devices:
        parser.error(
            f"--batch-size must be a multiple of the {devices} devices. "
            f"Received: {args.batch_size}"
        )
    if process > 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    print(f"{processes} processes with {devices} devices")

    output = args.output or Path(f"runs/distributed_{args.network}")
    exported = Path("saved_models") / output.name
    if output.name in models.Classifier.preset_names():
        parser.error(f"--output {output}: {exported} is a network of the package")
    try:
        finished = len(callbacks.Checkpoint.history_of(output))
    except ValueError as error:
        parser.error(str(error))
    multihost_utils.assert_equal(
        finished, "All processes must share the folder --output."
    )
    if finished and not args.resume:
        parser.error(f"{output} holds a run: add --resume, or choose another --output")
    keras.config.set_dtype_policy(args.precision)
    seed = args.seed + finished
    keras.utils.set_random_seed(seed)

    # Data. Each process receives its part of every batch.
    load = loaders[args.dataset]
    try:
        if process == 0:
            load()  # a single process downloads or renders the data
        multihost_utils.sync_global_devices("data")
        train, validation, test = (split.take(args.limit) for split in load())
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    train, validation = (
        split.take(len(split) // devices * devices) for split in (train, validation)
    )
    train = train.shuffle(10_000, seed)
    toys = args.dataset.startswith("toys")
    if not toys:
        train = datasets.random_shift(train, 2, seed)
    train, validation = (
        split.batch(args.batch_size).map(
            lambda x, y: (x[process::processes], y[process::processes])
        )
        for split in (train, validation)
    )
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )

    # Model. The moving averages of the weights and of the normalized costs span half an
    # epoch.
    momentum = 1.0 - 1.0 / max(2, len(train) // 2)
    shape = tuple(train.element_spec[0].shape[1:])
    classes = 5 if toys else 10
    steps = args.epochs * len(train)
    schedules = []
    if args.network == "capsnet":
        widths = models.CapsNet.variants[args.variant]
        model = models.CapsNet(shape, classes, **widths)
        loss, peak = losses.MarginLoss(), 0.001
    else:
        model = models.MatrixCapsNet(
            shape, classes, args.variant, routing=routing.EMRouting(momentum=momentum)
        )
        loss, peak = losses.SpreadLoss(), 0.01
        schedules.append(callbacks.SpreadMarginSchedule(steps=max(1, steps // 16)))
    model.summary()

    # Training.
    learning_rate = keras.optimizers.schedules.CosineDecay(
        0.0, steps, alpha=0.01, warmup_target=peak, warmup_steps=min(200, steps // 10)
    )
    optimizer = keras.optimizers.Adam(
        learning_rate, use_ema=True, ema_momentum=momentum
    )
    model.compile(optimizer, loss=loss, metrics=["accuracy"])
    checkpoint = callbacks.Checkpoint(output, monitor="val_accuracy", mode="max")
    try:
        checkpoint.restore(model)
    except ValueError as error:
        sys.exit(f"Can't resume: {error}")
    if finished:
        print(f"Going on after epoch {finished}.")
    # The training can take days, so an unwritable folder is reported now. The
    # metrics.json of an earlier, shorter training would be wrong.
    if process == 0:
        exported.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=exported).close()
        (output / "metrics.json").unlink(missing_ok=True)
    try:
        model.fit(
            train,
            validation_data=validation,
            initial_epoch=finished,
            epochs=args.epochs,
            callbacks=[*schedules, keras.callbacks.SwapEMAWeights(), checkpoint],
        )
    except ValueError as error:
        sys.exit(str(error))

    # Results of the best epoch, which only the first process computes.
    jax.distributed.shutdown()
    if process > 0:
        return
    keras.distribution.set_distribution(None)
    print("Test images:")
    best = keras.saving.load_model(output / "best.keras")
    test = test.batch(args.batch_size)
    accuracy = best.evaluate(test, return_dict=True)["accuracy"]
    plotting.curves(checkpoint.history).savefig(output / "curves.png")
    if args.network == "capsnet":
        images, labels = (np.asarray(part) for part in next(iter(test.rebatch(10))))
        figure = plotting.reconstructions(best, images, labels)
        figure.savefig(output / "reconstructions.png")

    # Export, without the optimizer. A SavedModel needs the TensorFlow backend.
    best = keras.saving.load_model(output / "best.keras", compile=False)
    with files.replaced(exported / "model.keras") as unfinished:
        best.save(unfinished)

    results = {
        "test_accuracy": accuracy,
        "test_error": 1.0 - accuracy,
        "epochs": len(checkpoint.history),
        "parameters": best.count_params(),
        "seconds": sum(row["seconds"] for row in checkpoint.history),
        "processes": processes,
        "devices": devices,
    }
    settings = {**vars(args), "output": str(output)}
    with files.replaced(output / "metrics.json") as unfinished:
        unfinished.write_text(json.dumps({**settings, **results}, indent=1))
    print()
    for name, value in results.items():
        text = f"{value:.4f}" if isinstance(value, float) else value
        print(f"{name:>15}  {text}")
    print(f"{'files':>15}  {output}: {', '.join(sorted(os.listdir(output)))}")
    print(f"{'exported':>15}  {exported}: {', '.join(sorted(os.listdir(exported)))}")


# JAX aborts a process when another one is lost, without an exception. So a parent
# process runs the same command in a child process, which trains, and reports how the
# child ended.


def watch():
    """Runs the child process and returns the exit code or message of the parent."""
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, CHILD: "1"},
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches the child only through its parent
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: child.send_signal(number))
    code = child.wait()
    if code == FAILED:
        reason = "by the error above"
    elif code == -signal.SIGABRT:
        reason = "because another process was lost"
    elif code < 0:
        reason = f"by {signal.Signals(-code).name}"
    else:
        return code
    return (
        f"\nStopped {reason}. When one process stops, all of them do.\n"
        "Start them again with --resume to go on after the last finished epoch."
    )


def train_watched():
    """Trains in the child process, which ends when its parent ends."""

    def end_with_the_parent():
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=end_with_the_parent, daemon=True).start()
    code = 0
    try:
        main()
    except SystemExit as error:
        code = error.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except OSError as error:  # a full disk, for example
        print(f"\nStopped: {error}", file=sys.stderr)
        code = 1
    except BaseException:
        traceback.print_exc()
        code = FAILED
    sys.stdout.flush()
    sys.stderr.flush()
    # A normal exit would wait for the other processes, which wait for this one.
    os._exit(code)


if CHILD in os.environ:
    train_watched()
else:
    sys.exit(watch())
