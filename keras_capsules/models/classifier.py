import os
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import keras
from keras import ops

from keras_capsules import files, validation
from keras_capsules._backend import (
    build_training,
    complete_onnx,
    unrolled,
    with_static_shape,
)
from keras_capsules.models.presets import FILE, load_preset
from keras_capsules.nested import Nested

Network = TypeVar("Network", bound="Classifier")


@keras.saving.register_keras_serializable(package="keras_capsules")
class Classifier(Nested, keras.Model):
    """Base class of the networks, which return a score for each class.

    The `call` method of a subclass returns a dict, in which `scores` has a value for
    each class. Losses and metrics use the scores only; other outputs are for the
    caller. As in any functional model, losses and labels may be dicts keyed by output,
    `{"scores": …}`. Labels may then also contain `images`, which a decoder
    reconstructs; see `CapsuleNetwork`.

    Args:
        input_shape: `(height, width, channels)` of an image.
        classes: number of classes.
        **kwargs: `name`, `dtype` and the other arguments of `keras.Model`.

    Call arguments:
        images: the images.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        A dict: `scores` `(batch, classes)` in the variable dtype, and the outputs
        that a subclass adds, in the compute dtype.

    Raises:
        ValueError: an argument is out of its range, or labels given as arrays have
            another shape or values outside the classes. Labels from a `tf.data.Dataset`
            are checked by TensorFlow when a step runs, which raises
            `tf.errors.InvalidArgumentError`. XLA, also with JAX, does not check them.

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

    # The trained networks of the package: names that `from_preset` accepts, each with
    # the number of parameters and the accuracy.
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
    def from_preset(
        cls: type[Network], preset: str | os.PathLike, classes: int | None = None
    ) -> Network:
        """Loads a trained network of the package, or a saved network.

        With `classes` the network gets a new head for other classes. The layers below
        keep their weights, so that the network can be fine-tuned.

        Args:
            preset: one of `preset_names()`, a `.keras` file, a folder that
                `save_to_preset` wrote, or `"hf://USER/NAME"`, a repository of the
                Hugging Face hub. The last needs the package `huggingface_hub`. The
                folder `saved_models/` of the repository has a model card of each
                preset.
            classes: the number of classes of a new head; `None` for the network as it
                was trained.

        Returns:
            The network, not compiled.

        Raises:
            FileNotFoundError: the package was installed without its presets.
            ImportError: `huggingface_hub` is needed and not installed.
            ValueError: there is no such preset, or it is not a network of this class.

        Example:

        >>> from keras_capsules import models
        >>> models.CapsNet.from_preset("capsnet_mnist_small").count_params()
        1280720
        >>> letters = models.CapsNet.from_preset("capsnet_mnist_small", classes=26)
        >>> letters.classes
        26
        """
        model = load_preset(preset, cls.preset_names())
        if not isinstance(model, cls):
            raise ValueError(
                f"Argument `preset` must be a {cls.__name__}. Received: "
                f"preset={preset!r}, which is a {type(model).__name__}"
            )
        return model if classes is None else model._with_new_head(classes)

    def save_to_preset(self, preset_dir: str | os.PathLike) -> None:
        """Saves the network in a folder, from which `from_preset` loads it.

        The folder gets a file `model.keras` with the network, without its optimizer. To
        save to the Hugging Face hub instead, call Keras's
        `model.save("hf://USER/NAME")`.

        Args:
            preset_dir: the folder, created if it is missing. An existing `model.keras`
                in it is replaced.

        Raises:
            OSError: the file can't be written. An existing file stays unchanged.

        Example:

        ```python
        model.save_to_preset("letters")
        models.CapsNet.from_preset("letters")
        ```
        """
        model = type(self).from_config(self.get_config())
        _copy_weights(model, self)
        Path(preset_dir).mkdir(parents=True, exist_ok=True)
        with files.replaced(Path(preset_dir) / FILE) as unfinished:
            model.save(unfinished)

    @property
    def head(self) -> tuple[keras.layers.Layer, ...]:
        """The layers whose weights depend on the number of classes."""
        raise NotImplementedError(
            f"{type(self).__name__} must say which layers are its `head`."
        )

    def _with_new_head(self, classes):
        model = type(self).from_config({**self.get_config(), "classes": classes})
        for new, old in zip(model.layers, self.layers, strict=True):
            if new not in model.head:
                new.set_weights(old.get_weights())
        return model

    @classmethod
    def preset_names(cls) -> tuple[str, ...]:
        """Returns the names of the presets that `from_preset` accepts.

        Returns:
            The presets of this class and of its subclasses.

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
        # Keras Tuner calls this for networks that their constructor has built.
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
        """Casts images to the compute dtype and sets sizes that are unknown.

        A subclass calls this method at the beginning of `call`. Integer images become
        floats. On TensorFlow, sizes that are unknown before a graph runs are set to
        those of `input_shape`, and are checked when the graph runs. Known sizes are not
        checked here: Keras checks them when the network is called.

        Args:
            images: the images.

        Returns:
            The images, `(batch, *image_shape)`, in the compute dtype.
        """
        images = ops.cast(images, self.compute_dtype)
        return with_static_shape(images, (None, *self.image_shape))

    def from_bytes(self, images: Any) -> Any:
        """Scales images with values from 0 to 255 to the inputs of the network.

        Exported networks that accept bytes call this method. By default it divides by
        255; a subclass for images of another scale overrides it.

        Args:
            images: float32 images `(batch, *image_shape)` with values from 0 to 255.

        Returns:
            The images in the scale that the network was trained with.
        """
        return images / 255.0

    def check_labels(self, labels: Any, name: str) -> None:
        """Raises an error if labels do not fit this network.

        Args:
            labels: the labels, for instance of `fit`.
            name: name of the argument, for the error.

        Raises:
            ValueError: the labels have a wrong shape, are text, or have values outside
                the classes.
        """
        validation.check_labels(labels, self.classes, name)

    # While a step is compiled the values of labels are unknown, so arrays are checked
    # before.

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
        if y is None:
            raise ValueError(
                "Argument `y` must hold the labels of the images; `predict` needs "
                "none. Received: y=None"
            )
        y, scores = labels_of("y", y), y_pred["scores"]
        sample_weight = of_scores("sample_weight", sample_weight)
        if isinstance(self.loss, dict):
            y, scores = {"scores": y}, {"scores": scores}
        return super().compute_loss(x, y, scores, sample_weight, training)

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        y = labels_of("y", y)
        sample_weight = of_scores("sample_weight", sample_weight)
        return super().compute_metrics(x, y, y_pred["scores"], sample_weight)

    def _check(self, x, y, name="y"):
        if y is not None:
            self.check_labels(labels_of(name, y), name)
        _check_is_one("x", x)

    def export(
        self,
        filepath: str | os.PathLike,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **kwargs: Any,
    ) -> None:
        """Exports the network for programs without Keras.

        The input is called `images` and accepts batches of any size. For LiteRT on
        PyTorch, Keras fixes the batch size to 1 unless `input_signature` gives another.
        ONNX and LiteRT files compute in float32, even if the network uses half
        precision. Their loops are unrolled, which does not change the results.
        `export.export_onnx` and `export.export_litert` have more options.

        Args:
            filepath: the file, or the folder of a SavedModel.
            format: `"tf_saved_model"`, `"onnx"`, `"litert"`, or another format of
                `keras.Model.export`.
            verbose: whether Keras prints a message; `None` for Keras's default.
            input_signature: `keras.InputSpec` of the images; by default a batch of
                any size in float32.
            **kwargs: other arguments of `keras.Model.export`, such as
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
        # LiteRT has no loop over blocks of images, and that of ONNX Runtime is slow.
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


def labels_of(name: str, y: Any) -> Any:
    """Returns labels without the images that may accompany them.

    Args:
        name: name of the argument, for the error.
        y: labels, or a dict of the labels as `scores` and, optionally, `images`.

    Returns:
        The labels.

    Raises:
        ValueError: as for `of_scores`.

    Example:

    >>> labels_of("y", {"scores": 3, "images": 4})
    3
    """
    if isinstance(y, dict):
        y = {key: value for key, value in y.items() if key != "images"}
    return of_scores(name, y)


def of_scores(name: str, value: Any) -> Any:
    """Returns the value that belongs to the output `scores`.

    Args:
        name: name of the argument, for the error.
        value: a tensor, or a dict that contains it as `scores`.

    Returns:
        The tensor.

    Raises:
        ValueError: there are several tensors, or one for another output.

    Example:

    >>> of_scores("y", {"scores": 3})
    3
    """
    if isinstance(value, dict):
        if value.keys() != {"scores"}:
            raise ValueError(
                f"Argument `{name}` must hold values for `scores` only. Received "
                f"a dict with {sorted(value)}"
            )
        return value["scores"]
    _check_is_one(name, value)
    return value


def _check_is_one(name, value):
    """Raises an error if a list of tensors is given where one tensor belongs."""
    if isinstance(value, (tuple, list)) and any(hasattr(x, "shape") for x in value):
        raise ValueError(
            f"Argument `{name}` must be one array or tensor: a network takes only "
            "images and labels, and its decoder uses the same labels. Received a "
            f"{type(value).__name__} of {len(value)}"
        )


def in_float32(model: Classifier) -> Classifier:
    """Returns the network itself if it computes in float32, else a float32 copy."""
    if not any(map(_in_half_precision, model._flatten_layers())):
        return model
    copy = type(model).from_config({**model.get_config(), "dtype": "float32"})
    for layer in copy._flatten_layers():  # a backbone may have its own policy
        if _in_half_precision(layer):
            layer.dtype_policy = "float32"
    _copy_weights(copy, model)
    return copy


def _copy_weights(new, old):
    """Copies weights as a saved file holds them, in which LoRA is merged."""
    for layer, source in zip(new._flatten_layers(), old._flatten_layers(), strict=True):
        weights = {}
        source.save_own_variables(weights)
        layer.load_own_variables(weights)


def _in_half_precision(layer):
    return layer.compute_dtype in ("float16", "bfloat16")
