import os
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_capsules.datasets.download import download
from keras_capsules.datasets.pairs import check_crops, for_testing, for_training, load
from keras_capsules.datasets.toys import Toys, render

_FAMILIAR = {
    "azimuth": (15, 16, 17, 0, 1, 2),  # 300, 320, 340, 0, 20 and 40 degrees
    "elevation": (0, 1, 2),  # 30, 35 and 40 degrees
}


class ViewpointSplits(NamedTuple):
    """The four parts of a data set that tests novel viewpoints.

    Attributes:
        train: training toys from the familiar viewpoints.
        validation: photographs set aside from those, to choose the best epoch by.
        familiar: test toys from the familiar viewpoints.
        novel: test toys from all other viewpoints.
    """

    train: tf.data.Dataset
    validation: tf.data.Dataset
    familiar: tf.data.Dataset
    novel: tf.data.Dataset


def viewpoint_split(
    name: str,
    novel: str,
    data_dir: str | os.PathLike | None = None,
    stereo: bool = False,
    crops: int = 1,
    seed: int = 0,
) -> ViewpointSplits:
    """smallNORB or its twin, to be tested from viewpoints not seen in training.

    Networks of different kinds are compared on the novel viewpoints where they
    are equally good on the familiar ones.

    Args:
        name: `"smallnorb"`, `"toys/small"` or `"toys/full"`.
        novel: `"azimuth"` trains on 300, 320, 340, 0, 20 and 40 degrees of
            azimuth and tests on the others; `"elevation"` trains on 30, 35 and
            40 degrees of elevation and tests on the others.
        data_dir: as for `datasets.mnist`.
        stereo: as for `datasets.smallnorb`.
        crops: as for `datasets.smallnorb`.
        seed: as for `datasets.smallnorb`.

    Returns:
        ViewpointSplits of `(image, label)`, as for `datasets.smallnorb`.

    Raises:
        FileNotFoundError: smallNORB is missing and can't be downloaded.
        ValueError: an argument is not one of those above.

    Example:

    ```python
    split = datasets.viewpoint_split("toys/small", "azimuth")
    model.fit(split.train.shuffle(10_000).batch(64))
    model.evaluate(split.familiar.batch(64))
    model.evaluate(split.novel.batch(64))
    ```

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018), section
        5.1.
    """
    names = ["smallnorb", *(f"toys/{config}" for config in Toys.builder_configs)]
    if name not in names:
        raise ValueError(f"name must be one of {names}. Received: name={name!r}")
    if novel not in _FAMILIAR:
        raise ValueError(
            f"novel must be one of {list(_FAMILIAR)}. Received: novel={novel!r}"
        )
    check_crops(crops)

    if name == "smallnorb":
        builder = download(name, data_dir)
    else:
        builder = render(name.removeprefix("toys/"), data_dir)
    train, test = (load(builder, split, stereo) for split in ("train", "test"))
    seen, familiar = (
        np.isin(getattr(pairs, f"{novel}s"), _FAMILIAR[novel])
        for pairs in (train, test)
    )
    train, validation = train.take(seen).without_last_tenth()
    return ViewpointSplits(
        for_training(train, seed),
        for_testing(validation),
        for_testing(test.take(familiar), crops),
        for_testing(test.take(~familiar), crops),
    )
