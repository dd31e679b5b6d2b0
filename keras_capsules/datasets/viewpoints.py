import os
from typing import NamedTuple

import tensorflow as tf

from keras_capsules.datasets.download import download
from keras_capsules.datasets.eth80 import load_eth80
from keras_capsules.datasets.pairs import load_both
from keras_capsules.datasets.photographs import check_crops, for_testing, splits
from keras_capsules.datasets.toys import Toys, render

# The lowest and the highest angle, from -180 to 179 degrees, that is trained on.
_FAMILIAR = {"azimuth": (-60, 40), "elevation": (30, 40)}
_FAMILIAR_ETH80 = {"azimuth": (-68, 67), "elevation": (0, 24)}


class ViewpointSplits(NamedTuple):
    """The four parts of a data set that tests novel viewpoints.

    Attributes:
        train: training objects from the familiar viewpoints.
        validation: photographs set aside from those, to choose the best epoch by.
        familiar: test objects from the familiar viewpoints.
        novel: test objects from all other viewpoints.
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

    Networks of different kinds are compared on the novel viewpoints where they
    are equally good on the familiar ones. The objects to train on and those to test
    with are different ones, as in the splits of the data set.

    Args:
        name: `"smallnorb"`, `"toys/small"`, `"toys/full"` or `"eth80"`.
        novel: `"azimuth"` trains on 300, 320, 340, 0, 20 and 40 degrees of
            azimuth and tests on the others; `"elevation"` trains on 30, 35 and
            40 degrees of elevation and tests on the others. With ETH-80
            `"azimuth"` trains on -68 to 67 degrees and tests on the others, all
            level with the object, where there are 16 azimuths; `"elevation"` trains
            on 0, 22 and 24 degrees and tests on 45, 55, 68 and 90.
        data_dir: as for `datasets.mnist`; as for `datasets.eth80`, which has no
            default.
        stereo: as for `datasets.smallnorb`; ETH-80 has one camera.
        crops: as for `datasets.smallnorb`.
        seed: as for `datasets.smallnorb`.

    Returns:
        ViewpointSplits of `(image, label)`, as for `datasets.smallnorb` or
        `datasets.eth80`.

    Raises:
        FileNotFoundError: smallNORB is missing and can't be downloaded.
        ValueError: an argument is not one of those above, or the folder of ETH-80
            is not as `datasets.eth80` needs it.

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
    """What to train on and what to test with, from all viewpoints that are compared."""
    if name == "smallnorb":
        return load_both(download(name, data_dir), stereo)
    if name.startswith("toys/"):
        return load_both(render(name.removeprefix("toys/"), data_dir), stereo)
    train, test = load_eth80(data_dir)
    if novel == "elevation":
        return train, test
    # From above there are few azimuths, or one.
    return train.take(train.elevations == 0), test.take(test.elevations == 0)
