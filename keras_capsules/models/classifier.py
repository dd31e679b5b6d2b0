import os
from typing import Any, ClassVar, TypeVar

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import (
    build_training,
    complete_onnx,
    unrolled,
    with_static_shape,
)
from keras_capsules.models.presets import preset_file
from keras_capsules.nested import Nested

Network = TypeVar("Network", bound="Classifier")


@keras.saving.register_keras_serializable(package="keras_capsules")
class Classifier(Nested, keras.Model):
    """What the networks share that say which class an image shows.

    A subclass returns a dict from `call`, in which `scores` has a value for each
    class. Losses and metrics see the scores; whatever else is in the dict is for
    those who call the network. Losses and labels may be keyed by output,
    `{"scores": …}`, as in any functional model.

    Args:
        input_shape: `(height, width, channels)` of an image.
        classes: number of classes.
        **kwargs: `name`, `dtype` and the other arguments of `keras.Model`.

    Call arguments:
        images: the images.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        A dict: `scores` `(batch, classes)`, in the dtype of the variables, and
        what a subclass adds, in the dtype of the computation.

    Raises:
        ValueError: an argument is out of its range, or labels given as arrays
            have another shape or values outside the classes. Labels from a
            `tf.data.Dataset` are checked as `validation.check_labels` says.

    Example:

    >>> import keras
    >>> import numpy as np
    >>> from keras_capsules import models
    >>> class Linear(models.Classifier):
    ...     def __init__(self, input_shape, classes):
    ...         super().__init__(input_shape, classes)
    ...         self.dense = keras.layers.Dense(classes, "softmax")
    ...
    ...     def call(self, images):
    ...         return {"scores": self.dense(keras.ops.reshape(images, (-1, 64)))}
    >>> model = Linear((8, 8, 1), classes=3)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> images, labels = np.random.rand(6, 8, 8, 1), np.arange(6) % 3
    >>> history = model.fit(images, labels, verbose=0)
    >>> model.predict(images, verbose=0)["scores"].shape
    (6, 3)
    """

    # What comes trained with the package, by the names that `from_preset` takes.
    presets: ClassVar[dict[str, str]] = {}

    def __init__(
        self, input_shape: tuple[int, int, int], classes: int, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.image_shape = validation.check_positive_integers(
            "input_shape", input_shape, 3
        )
        self.classes = validation.check_positive_integer("classes", classes)
        self.input_spec = keras.layers.InputSpec(shape=(None, *self.image_shape))

    @classmethod
    def from_preset(cls: type[Network], preset: str) -> Network:
        """A trained network that comes with the package; nothing is downloaded.

        Args:
            preset: one of `preset_names()`: `"capsnet_mnist_small"`, a `CapsNet`,
                `"efficient_capsnet_mnist_paper"`, an `EfficientCapsNet`, or
                `"matrix_capsnet_mnist_small"`, a `MatrixCapsNet`, all trained on
                MNIST. `saved_models/` has a card of each.

        Returns:
            The network, not compiled.

        Raises:
            FileNotFoundError: the package was installed without its presets.
            ValueError: this class has no preset of this name.

        Example:

        >>> from keras_capsules import models
        >>> models.CapsNet.from_preset("capsnet_mnist_small").count_params()
        1280720
        """
        validation.check_one_of("preset", preset, cls.preset_names())
        return keras.saving.load_model(preset_file(preset), compile=False)

    @classmethod
    def preset_names(cls) -> tuple[str, ...]:
        """The names that `from_preset` takes.

        Returns:
            The presets of this class, and of those that are derived from it.

        Example:

        >>> from keras_capsules import models
        >>> models.MatrixCapsNet.preset_names()
        ('matrix_capsnet_mnist_small',)
        """
        names = [*vars(cls).get("presets", {})]
        for derived in cls.__subclasses__():
            names += derived.preset_names()
        return tuple(dict.fromkeys(names))

    def build_from_config(self, config):
        # Keras Tuner asks for it of networks that were built when they were made.
        if not self.built:
            super().build_from_config(config)

    def compute_output_shape(self, input_shape):
        return {"scores": (input_shape[0], self.classes)}

    def compute_output_spec(self, images, training=None):
        shapes = self.compute_output_shape(images.shape)
        return {
            name: keras.KerasTensor(
                shape, self.variable_dtype if name == "scores" else self.compute_dtype
            )
            for name, shape in shapes.items()
        }

    def as_images(self, images: Any) -> Any:
        """Makes of what the network is called with the images that it was built for.

        A subclass begins its `call` with it. Images of integers become floats, and
        sizes that are not known before a graph runs are checked then.

        Args:
            images: the images.

        Returns:
            The images, `(batch, *image_shape)`, in the dtype of the computation.
        """
        images = ops.cast(images, self.compute_dtype)
        return with_static_shape(images, (None, *self.image_shape))

    def from_bytes(self, images: Any) -> Any:
        """Makes of images with values from 0 to 255 what the network is called with.

        An exported network does it where it is given bytes. By default it divides by
        255; a subclass for images of another scale writes its own.

        Args:
            images: float32 images `(batch, *image_shape)`.

        Returns:
            The images, in the scale that the network was trained on.
        """
        return images / 255.0

    def check_labels(self, labels: Any, name: str) -> None:
        """Raises an error if labels can't be those of this network.

        Args:
            labels: the labels, for instance of `fit`.
            name: name of the argument, for the error.

        Raises:
            ValueError: as for `validation.check_labels`.
        """
        validation.check_labels(labels, self.classes, name)

    # While a step is compiled the labels have no values to look at, so arrays
    # are checked before.

    def fit(self, x=None, y=None, *args, **kwargs):
        self._check(x, y)
        held_out = kwargs.get("validation_data")
        if isinstance(held_out, tuple):
            self._check(*held_out[:2], "validation_data")
        build_training(self, x, y)
        return super().fit(x, y, *args, **kwargs)

    def train_on_batch(self, x, y=None, *args, **kwargs):
        self._check(x, y)
        build_training(self, x, y)
        return super().train_on_batch(x, y, *args, **kwargs)

    def evaluate(self, x=None, y=None, *args, **kwargs):
        self._check(x, y)
        return super().evaluate(x, y, *args, **kwargs)

    def test_on_batch(self, x, y=None, *args, **kwargs):
        self._check(x, y)
        return super().test_on_batch(x, y, *args, **kwargs)

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        y, scores = of_scores("y", y), y_pred["scores"]
        sample_weight = of_scores("sample_weight", sample_weight)
        if isinstance(self.loss, dict):
            y, scores = {"scores": y}, {"scores": scores}
        return super().compute_loss(x, y, scores, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y, sample_weight = of_scores("y", y), of_scores("sample_weight", sample_weight)
        return super().compute_metrics(x, y, y_pred["scores"], sample_weight)

    def _check(self, x, y, name="y"):
        if y is not None:
            self.check_labels(of_scores(name, y), name)
        _check_is_one("x", x)

    def export(
        self,
        filepath: str | os.PathLike,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Writes the network for programs without Keras, as `keras.Model.export` does.

        The input is called `images` and takes batches of any size. ONNX and LiteRT
        files compute in float32, also those of a network in half precision, and every
        loop in them is written out; the values are the same. `export.export_onnx` and
        `export.export_litert` do more.

        Args:
            filepath: the file, or the folder of a SavedModel.
            format: `"tf_saved_model"`, `"onnx"`, `"litert"`, or another of Keras's.
            verbose: whether Keras says what it wrote.
            input_signature: `keras.InputSpec` of the images; by default a batch of
                any size in float32.
            **kwargs: more arguments of `keras.Model.export`, such as
                `opset_version` for ONNX.

        Example:

        ```python
        model.export("network.onnx", format="onnx")
        session = onnxruntime.InferenceSession("network.onnx")
        (scores,) = session.run(["scores"], {"images": images})
        ```
        """
        if input_signature is None:
            shape = (None, *self.image_shape)
            input_signature = [keras.InputSpec("float32", shape, name="images")]
        if format not in ("onnx", "litert"):
            super().export(filepath, format, verbose, input_signature, **kwargs)
            return
        # LiteRT has no loop over blocks of images, and ONNX Runtime's is slow.
        with unrolled():
            super(Classifier, in_float32(self)).export(
                filepath, format, verbose, input_signature, **kwargs
            )
        if format == "onnx":
            complete_onnx(filepath)

    def get_config(self):
        return {
            **super().get_config(),
            "input_shape": self.image_shape,
            "classes": self.classes,
        }


def of_scores(name: str, value: Any) -> Any:
    """What belongs to the output `scores`, where values are keyed by output.

    Args:
        name: name of the argument, for the error.
        value: a tensor, or a dict of one.

    Returns:
        The tensor.

    Raises:
        ValueError: there are several tensors, or one of another output.

    Example:

    >>> of_scores("y", {"scores": 3})
    3
    """
    if isinstance(value, dict):
        if value.keys() != {"scores"}:
            raise ValueError(
                f"Argument `{name}` must hold what belongs to `scores` alone. Received "
                f"a dict with {sorted(value)}"
            )
        return value["scores"]
    _check_is_one(name, value)
    return value


def _check_is_one(name, value):
    """Raises an error if a list of tensors is given where one tensor belongs."""
    if isinstance(value, (tuple, list)) and any(hasattr(x, "shape") for x in value):
        raise ValueError(
            f"Argument `{name}` must be one array or tensor: images and labels are all "
            "that a network takes, and its decoder has the labels from there. Received "
            f"a {type(value).__name__} of {len(value)}"
        )


def in_float32(model: Classifier) -> Classifier:
    """A network that computes in float32: itself, or a copy with its weights."""
    if not any(map(_in_half_precision, model._flatten_layers())):
        return model
    copy = type(model).from_config({**model.get_config(), "dtype": "float32"})
    for layer in copy._flatten_layers():  # a backbone has a precision of its own
        if _in_half_precision(layer):
            layer.dtype_policy = "float32"
    copy.set_weights(model.get_weights())
    return copy


def _in_half_precision(layer):
    return layer.compute_dtype in ("float16", "bfloat16")
