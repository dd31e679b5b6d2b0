import os

from keras_capsules.datasets.download import download
from keras_capsules.datasets.pairs import load_both
from keras_capsules.datasets.photographs import check_crops, splits
from keras_capsules.datasets.splits import Splits


def smallnorb(
    data_dir: str | os.PathLike | None = None,
    stereo: bool = False,
    crops: int = 1,
    seed: int = 0,
) -> Splits:
    """Loads smallNORB, preprocessed as in the paper on EM routing.

    The data set has photographs of 50 toys: four-legged animals, human figures,
    airplanes, trucks and cars, with labels 0 to 4. Half of the toys of each category
    are in the 24,300 training pairs, the other half in the 24,300 test pairs. The last
    tenth of the training pairs, in TFDS's shuffled order, is for validation. These
    pairs show the training toys, so the validation is easier than the test.

    Images are downsampled to 48×48. Training images are random 32×32 crops, drawn anew
    in every epoch; validation and test images are the centre crops. Each channel of a
    crop is standardized, as in the authors' code. That code also changes brightness and
    contrast at random before; this is omitted, because the standardization cancels it.

    Args:
        data_dir: as for `datasets.mnist`.
        stereo: whether to return both images of a pair, as two channels. By default
            only the first image is returned, for networks with one input channel.
        crops: number of crops along each side of a grid around the centre of a test
            image. Average the outputs for the `crops²` crops, as in the example.
        seed: seed of the training crops, which also depend on TensorFlow's global seed.

    Returns:
        Splits of `(image, label)`: a float32 image `(32, 32, 1)`, or `(32, 32, 2)` if
        `stereo` is `True`, and an int32 label. With `crops` above 1 a test image is
        `(crops², 32, 32, channels)`.

    Raises:
        FileNotFoundError: smallNORB is missing and can't be downloaded.
        ValueError: `crops` is not an integer from 1 to 15, or the files of the data set
            are damaged.

    Example:

    ```python
    train, validation, test = datasets.smallnorb(crops=3)
    model.fit(train.shuffle(10_000).batch(64), validation_data=validation.batch(64))

    right = 0
    for images, labels in test.batch(64):  # (batch, 9, 32, 32, 1)
        outputs = model.predict_on_batch(ops.reshape(images, (-1, 32, 32, 1)))
        scores = outputs["scores"]
        scores = ops.mean(ops.reshape(scores, (-1, 9, 5)), axis=1)
        right += ops.sum(ops.argmax(scores, axis=-1) == labels)
    ```

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018), section
        5; LeCun, Huang and Bottou, Learning methods for generic object
        recognition with invariance to pose and lighting (2004).
    """
    check_crops(crops)
    pairs = load_both(download("smallnorb", data_dir), stereo)
    return splits(*pairs, crops, seed)
