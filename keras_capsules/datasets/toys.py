import dataclasses
import errno
import os
from itertools import product

import joblib
import numpy as np
import tensorflow_datasets as tfds

from keras_capsules import files
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
    """Loads toys: a data set like smallNORB that is rendered, not downloaded.

    Toys of the same five categories, ten of each, built from simple shapes with
    random proportions; the views, lightings, splits and the pipeline are those of
    `datasets.smallnorb`. The toys are rendered when they are first asked for, and
    then kept as a TFDS data set: 13 MB of the small configuration, 140 MB of the full
    one. A line says where before they are written. Of several processes one renders
    them, and the others wait for it.

    Args:
        config: `"full"` has the 24,300 pairs of smallNORB in each split. `"small"`
            has 2,250: every other elevation and azimuth, every third lighting.
        data_dir: folder of the prepared data sets. By default that of the
            environment variable `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        stereo: as for `datasets.smallnorb`.
        crops: as for `datasets.smallnorb`.
        seed: as for `datasets.smallnorb`.

    Returns:
        Splits of `(image, label)`, as for `datasets.smallnorb`.

    Raises:
        ValueError: `config` or `crops` is not one of those above, or the toys are
            missing and `data_dir` can't be written.

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
    """The builder of a configuration, whose images are rendered if missing."""
    if config not in Toys.builder_configs:
        raise ValueError(
            f"config must be one of {sorted(Toys.builder_configs)}. "
            f"Received: config={config!r}"
        )
    builder = Toys(config=config, data_dir=data_dir)
    if not builder.data_path.exists():
        _prepare(builder)
        builder = Toys(config=config, data_dir=data_dir)
    return builder


def _prepare(builder, wait=False):
    """Renders the images; if another process is at it already, waits for that."""
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
    """Which of the 9 elevations, 18 azimuths and 6 lightings are rendered."""

    elevations: range
    azimuths: range
    lightings: range

    @property
    def pairs(self) -> int:
        """How many there are in both splits."""
        toys = 10 * len(CATEGORIES)
        return toys * len(self.elevations) * len(self.azimuths) * len(self.lightings)


class Toys(tfds.core.GeneratorBasedBuilder):
    """Rendered toys, with the features, labels and splits of TFDS's `smallnorb`.

    Example:

    Each toy as one of its pairs shows it, as in `docs/images/toys.png`:

    ```python
    from keras_capsules import datasets  # makes the builder known to TFDS

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
        # Threads would take turns: a ray holds Python's lock while it is cast.
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
    # Embree is not to be had everywhere: sets that are rendered do without it.
    from keras_capsules.datasets.rendering import Studio

    studio = Studio(toy(category, instance))
    photographs = []
    for view in views:
        # Seeded by the view, so that it doesn't matter which others are rendered.
        rng = np.random.default_rng((category, instance, *view))
        elevation, azimuth = 30 + 5 * view[0], 20 * view[1]
        photographs.append(studio.photographs(elevation, azimuth, lightings, rng))
    return photographs
