import os
from typing import NamedTuple

import tensorflow as tf

from keras_capsules.datasets.download import download
from keras_capsules.datasets.eth80 import load_eth80
from keras_capsules.datasets.pairs import load_both
from keras_capsules.datasets.photographs import check_crops, for_testing, splits
from keras_capsules.datasets.toys import Toys, render

# The smallest and the largest training angle, from -180 to 179 degrees.
_FAMILIAR = {"azimuth": (-60, 40), "elevation": (30, 40)}
_FAMILIAR_ETH80 = {"azimuth": (-68, 67), "elevation": (0, 24)}


class ViewpointSplits(NamedTuple):
    """The four parts of a data set for the evaluation on novel viewpoints.

    Attributes:
        train: photographs of the training objects from the familiar viewpoints.
        validation: photographs held out from these, for the choice of the best epoch.
        familiar: photographs of the test objects from the familiar viewpoints.
        novel: photographs of the test objects from all other viewpoints.
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
    """Splits smallNORB, toys or ETH-80 into familiar and novel viewpoints.

    Networks are trained on familiar viewpoints only. To compare networks, choose epochs
    in which they are equally good on familiar viewpoints, and compare their errors on
    novel ones. Training and test objects are different, as in the splits of the data
    set.

    Args:
        name: `"smallnorb"`, `"toys/small"`, `"toys/full"` or `"eth80"`.
        novel: the angle that has novel values, `"azimuth"` or `"elevation"`. For
            `"azimuth"` the familiar azimuths are 300, 320, 340, 0, 20 and 40 degrees;
            for `"elevation"` the familiar elevations are 30, 35 and 40 degrees. For
            ETH-80, `"azimuth"` uses only the photographs at elevation 0, which has 16
            azimuths, and those from -68 to 67 degrees are familiar; for `"elevation"`
            0, 22 and 24 degrees are familiar, and 45, 55, 68 and 90 are novel.
        data_dir: as for `datasets.mnist`. For ETH-80 it is required, as for
            `datasets.eth80`.
        stereo: as for `datasets.smallnorb`. It must be `False` for ETH-80, which was
            taken with one camera.
        crops: as for `datasets.smallnorb`.
        seed: as for `datasets.smallnorb`.

    Returns:
        A `ViewpointSplits` of `(image, label)`, as for `datasets.smallnorb` or
        `datasets.eth80`. With `crops` above 1 images of `familiar` and `novel` have
        several crops.

    Raises:
        FileNotFoundError: smallNORB is missing and can't be downloaded.
        ModuleNotFoundError: toys must be rendered and the package `embreex` is missing.
            It is not available on every platform.
        ValueError: an argument is out of its range, `data_dir` is invalid for
            `datasets.eth80`, toys can't be rendered there, or the files of the data set
            are damaged.

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
    configs = (f"toys/{config}" for config in Toys.builder_configs)
    names = ["smallnorb", *configs, "eth80"]
    if name not in names:
        raise ValueError(f"name must be one of {names}. Received: name={name!r}")
    if novel not in _FAMILIAR:
        raise ValueError(
            f"novel must be one of {list(_FAMILIAR)}. Received: novel={novel!r}"
        )
    check_crops(crops)

    if stereo and name == "eth80":
        raise ValueError(f"stereo must be False for eth80. Received: stereo={stereo}")

    lowest, highest = (_FAMILIAR_ETH80 if name == "eth80" else _FAMILIAR)[novel]
    train, test = _load(name, novel, data_dir, stereo)

    def familiar(photographs):
        angles = getattr(photographs, f"{novel}s")
        angles = (angles + 180) % 360 - 180
        return (lowest <= angles) & (angles <= highest)

    seen = familiar(test)
    return ViewpointSplits(
        *splits(train.take(familiar(train)), test.take(seen), crops, seed),
        for_testing(test.take(~seen), crops),
    )


def _load(name, novel, data_dir, stereo):
    """Returns the training and test photographs from all viewpoints to compare."""
    if name == "smallnorb":
        return load_both(download(name, data_dir), stereo)
    if name.startswith("toys/"):
        return load_both(render(name.removeprefix("toys/"), data_dir), stereo)
    train, test = load_eth80(data_dir)
    if novel == "elevation":
        return train, test
    # At higher elevations there are fewer azimuths, or only one.
    return train.take(train.elevations == 0), test.take(test.elevations == 0)
