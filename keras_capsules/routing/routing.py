from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_capsules")
class Routing(keras.layers.Layer):
    """Base class of routings: how children choose their parents.

    A routing is called with `(poses, kernel, activations=None, fields=None)` and
    makes the votes itself, when and for which parents it needs them. It returns
    the poses of the parents, or `(poses, activations)` if it computes activations
    of their own.

    It computes in the dtype that it is given: the layer that owns the kernel
    chooses the precision of the votes.

    Args:
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Attributes:
        computes_activations: whether it returns activations too.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices that make votes of poses.
        activations: activations of the children.
        fields: the `ops.ReceptiveFields` of the layer, if the children of one
            image are spread over several rows of the batch.

    Input shape:
        `poses` `(batch, children, P, Q)`, `kernel` `(children, parents, Q, R)`,
        `activations` `(batch, children)`.

    Output shape:
        `(batch, parents, P, R)`, and `(batch, parents)` for activations.

    Example:

    >>> from keras_capsules import routing
    >>> isinstance(routing.get("dynamic"), routing.Routing)
    True
    """

    computes_activations = False

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(autocast=False, **kwargs)

    def build(self, poses_shape, kernel_shape):
        """A routing that learns something adds its weights here."""

    def get_build_config(self):
        """None: the layer that owns the kernel builds it, also when it is loaded."""
