"""Trains a network in several processes, on one machine or on many, with JAX.

    python examples/train_distributed.py --coordinator localhost:4000 \\
        --processes 2 --process 0 &
    python examples/train_distributed.py --coordinator localhost:4000 \\
        --processes 2 --process 1
    srun python examples/train_distributed.py --network matrix_capsnet

Each process is given its part of every batch; after each batch all have the same
weights. Slurm, Open MPI 4 and TPU pods say themselves who takes part, and there a
process uses the GPU of its number on its machine; elsewhere three flags say it, and a
process uses all GPUs. The output folder is shared by all processes. The first writes
metrics.json, history.csv, pictures and the best model; the others are silent.

When a process is lost the others stop. --resume, with as many processes as you like,
goes on after the last finished epoch.
"""

import os
import sys

from watching import watched

ADVICE = """When one process stops, all of them do.
Start them again with --resume to go on after the last finished epoch."""

os.environ.setdefault("KERAS_BACKEND", "jax")


def main():
    import jax
    import keras
    import numpy as np
    from jax.experimental import multihost_utils
    from networks import capsnet, matrix_capsnet
    from runs import DIGITS, TOYS, arguments, begin, contents, load

    from keras_capsules import plotting

    parser = arguments(__doc__, "distributed_NETWORK", [*DIGITS, *TOYS])
    add = parser.add_argument
    add("--network", choices=["capsnet", "matrix_capsnet"], default="capsnet")
    add(
        "--config",
        choices=["paper", "small"],
        default="small",
        help="of matrix_capsnet",
    )
    add("--coordinator", help="HOST:PORT where process 0 is reached")
    add("--processes", type=int, help="how many take part")
    add("--process", type=int, help="the number of this one, from 0")
    args = parser.parse_args()
    if keras.backend.backend() != "jax":
        parser.error("several processes need JAX: set KERAS_BACKEND=jax")

    # As keras.distribution.initialize does it, which gives a lost process 100 s.
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

    run = begin(args, f"distributed_{args.network}", "network", "config")
    multihost_utils.assert_equal(
        len(run.history), "All processes must share the folder --output."
    )

    def splits():
        return load(args.dataset, args.data_dir, run.seed)

    if process == 0:
        splits()  # what has to be downloaded or rendered is so by one process
    multihost_utils.sync_global_devices("data")
    # Each process gets its part of every batch.
    train, validation, test = run.batches(splits, parts=devices)
    parts = (
        batches.map(lambda x, y: (x[process::processes], y[process::processes]))
        for batches in (train, validation)
    )
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(auto_shard_dataset=False)
    )
    image_shape = tuple(train.element_spec[0].shape[1:])
    classes = contents(args.dataset)["classes"]
    steps = args.epochs * len(train)
    if args.network == "capsnet":
        model, others = capsnet(image_shape, classes, steps), []
    else:
        model, others = matrix_capsnet(image_shape, classes, args.config, 3, steps)
    run.fit(model, *parts, args.epochs, others, monitor="val_accuracy", mode="max")

    # Results of the best epoch, from the first process alone.
    jax.distributed.shutdown()
    if process > 0:
        return
    keras.distribution.set_distribution(None)
    model, results = run.test(test)
    pictures = {}
    if args.network == "capsnet":
        examples, labels = (np.asarray(part) for part in next(iter(test.rebatch(10))))
        pictures["reconstructions"] = plotting.reconstructions(model, examples, labels)
    results |= {"processes": processes, "devices": devices}
    run.report(model, results, pictures)


watched(main, ADVICE)
