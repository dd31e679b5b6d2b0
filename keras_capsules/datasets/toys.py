import dataclasses
import errno
import os
from itertools import product

import joblib
import numpy as np
import tensorflow_datasets as tfds

from keras_capsules import files
from keras_capsules.datasets.download import describing
from keras_capsules.datasets.pairs import load_both
from keras_capsules.datasets.photographs import check_crops, splits
from keras_capsules.datasets.splits import Splits
from keras_capsules.datasets.toy_shapes import CATEGORIES, toy

_PAIR = 2_900  # bytes on the disk


def toys(
    config: str = "small",
    data_dir: str | os.PathLike | None = None,
    stereo: bool = False,
    crops: int = 1,
    seed: int = 0,
) -> Splits:
    """Loads toys, a data set like smallNORB that is rendered instead of downloaded.

    The data set has toys of the same five categories as smallNORB, ten of each, built
    from simple shapes with random proportions. Viewpoints, lightings, splits and
    preprocessing are those of `datasets.smallnorb`.

    The images are rendered at the first call and stored as a TFDS data set of 13 MB in
    the small configuration and 140 MB in the full one. Their folder is printed before
    they are written. If several processes need them, one renders them and the others
    wait.

    Args:
        config: `"full"` has 24,300 pairs in each split, as smallNORB. `"small"` has
            2,250 pairs: every second elevation and azimuth, and every third lighting.
        data_dir: folder of the prepared data sets. By default it is the folder in the
            environment variable `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.
        stereo: as for `datasets.smallnorb`.
        crops: as for `datasets.smallnorb`.
        seed: as for `datasets.smallnorb`.

    Returns:
        Splits of `(image, label)`, as for `datasets.smallnorb`.

    Raises:
        ModuleNotFoundError: toys must be rendered and the package `embreex` is missing.
            It is not available on every platform.
        ValueError: `config` or `crops` is out of its range, the images must be rendered
            and `data_dir` can't be written, or the files of the data set are damaged.

    Example:

    ```python
    train, validation, test = datasets.toys()
    model.fit(train.shuffle(10_000).batch(64), validation_data=validation.batch(64))
    ```

    Reference:
        LeCun, Huang and Bottou, Learning methods for generic object recognition
        with invariance to pose and lighting (2004).
    """
    check_crops(crops)
    pairs = load_both(render(config, data_dir), stereo)
    return splits(*pairs, crops, seed)


def render(config: str, data_dir: str | os.PathLike | None) -> "Toys":
    """Returns the builder of a configuration, and renders its images if missing.

    Args:
        config: as for `toys`.
        data_dir: as for `toys`.

    Returns:
        The builder of the prepared data set.

    Raises:
        ValueError: as for `toys`.
    """
    if config not in Toys.builder_configs:
        raise ValueError(
            f"config must be one of {sorted(Toys.builder_configs)}. "
            f"Received: config={config!r}"
        )
    with describing("toys", data_dir):
        builder = Toys(config=config, data_dir=data_dir)
        if builder.data_path.exists():
            return builder
    _prepare(builder)
    return Toys(config=config, data_dir=data_dir)


def _prepare(builder, wait=False):
    """Renders the images, or waits for another process that is rendering them."""
    folder = builder.data_path.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.isdir(folder) and not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with files.locked(folder, wait):
            if not builder.data_path.exists():
                pairs = builder.builder_config.pairs
                size = pairs * _PAIR / 1e6
                print(
                    f"Rendering {pairs} pairs ({size:.1f} MB) into {builder.data_dir}"
                )
                builder.download_and_prepare()
    except BlockingIOError:
        print(f"Waiting for another process that renders into {builder.data_dir}")
        _prepare(builder, wait=True)
    except OSError as error:
        raise ValueError(
            "Argument `data_dir` must be a folder that can be written; by default it "
            "is that of TFDS_DATA_DIR, else ~/tensorflow_datasets. Received: "
            f"data_dir={builder.data_dir_root} ({error.strerror or error})"
        ) from error


@dataclasses.dataclass(eq=False, kw_only=True)
class ToysConfig(tfds.core.BuilderConfig):
    """A configuration: the elevations, azimuths and lightings that are rendered.

    Attributes:
        elevations: indices of the elevations, from 0 to 8.
        azimuths: indices of the azimuths, from 0 to 17.
        lightings: indices of the lightings, from 0 to 5.
    """

    elevations: range
    azimuths: range
    lightings: range

    @property
    def pairs(self) -> int:
        """The number of pairs in both splits together."""
        toys = 10 * len(CATEGORIES)
        return toys * len(self.elevations) * len(self.azimuths) * len(self.lightings)


class Toys(tfds.core.GeneratorBasedBuilder):
    """Rendered toys, with the features, labels and splits of TFDS's `smallnorb`.

    Example:

    Draw one image of each toy, as in `docs/images/toys.png`:

    ```python
    from keras_capsules import datasets  # registers the builder with TFDS

    sheet = np.empty((5, 10, 96, 96), "uint8")
    for pair in tfds.as_numpy(tfds.load("toys/small", split="all")):
        sheet[pair["label_category"], pair["instance"]] = pair["image"][..., 0]
    sheet = sheet.swapaxes(1, 2).reshape(480, 960, 1)
    tf.io.write_file("toys.png", tf.io.encode_png(sheet))
    ```
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (
        ToysConfig(
            name="small",
            description="2,250 pairs a split.",
            elevations=range(0, 9, 2),
            azimuths=range(0, 18, 2),
            lightings=range(0, 6, 3),
        ),
        ToysConfig(
            name="full",
            description="24,300 pairs a split, as in smallNORB.",
            elevations=range(9),
            azimuths=range(18),
            lightings=range(6),
        ),
    )

    def _info(self) -> tfds.core.DatasetInfo:
        image = tfds.features.Image(shape=(96, 96, 1))
        return tfds.core.DatasetInfo(
            builder=self,
            description="Toys of five categories from all sides, after smallNORB.",
            features=tfds.features.FeaturesDict(
                {
                    "image": image,
                    "image2": image,
                    "label_category": tfds.features.ClassLabel(names=CATEGORIES),
                    "instance": tfds.features.ClassLabel(num_classes=10),
                    "label_elevation": tfds.features.ClassLabel(num_classes=9),
                    "label_azimuth": tfds.features.ClassLabel(num_classes=18),
                    "label_lighting": tfds.features.ClassLabel(num_classes=6),
                }
            ),
            supervised_keys=("image", "label_category"),
        )

    def _split_generators(self, dl_manager):
        return {
            "train": self._generate_examples((4, 6, 7, 8, 9)),
            "test": self._generate_examples((0, 1, 2, 3, 5)),
        }

    def _generate_examples(self, instances):
        config = self.builder_config
        views = [*product(config.elevations, config.azimuths)]
        shown = [*product(range(len(CATEGORIES)), instances)]
        # Processes, because ray casting holds Python's global interpreter lock.
        workers = joblib.Parallel(n_jobs=-1, return_as="generator")
        rendered = workers(
            joblib.delayed(_photographs)(*numbers, views, config.lightings)
            for numbers in shown
        )
        for (category, instance), photographs in zip(shown, rendered, strict=True):
            for (elevation, azimuth), pairs in zip(views, photographs, strict=True):
                for lighting, pair in zip(config.lightings, pairs, strict=True):
                    key = f"{category}_{instance}_{elevation}_{azimuth}_{lighting}"
                    yield (
                        key,
                        {
                            "image": pair[0, ..., None],
                            "image2": pair[1, ..., None],
                            "label_category": category,
                            "instance": instance,
                            "label_elevation": elevation,
                            "label_azimuth": azimuth,
                            "label_lighting": lighting,
                        },
                    )


def _photographs(category, instance, views, lightings):
    # Imported only to render, as Embree is not available on every platform.
    from keras_capsules.datasets.rendering import Studio

    studio = Studio(toy(category, instance))
    photographs = []
    for view in views:
        # Seeded by the view, so that images do not depend on the configuration.
        rng = np.random.default_rng((category, instance, *view))
        elevation, azimuth = 30 + 5 * view[0], 20 * view[1]
        photographs.append(studio.photographs(elevation, azimuth, lightings, rng))
    return photographs
