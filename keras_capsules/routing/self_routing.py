from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import BatchNormalization
from keras_capsules.ops import compete
from keras_capsules.ops.norms import at_least, dtype_at_least_float32
from keras_capsules.routing.moment_routing import MomentRouting


@keras.saving.register_keras_serializable(package="keras_capsules")
class SelfRouting(MomentRouting):
    """Self-routing: each child computes its couplings from its own pose.

    Each child has a linear classifier whose classes are the parents. The pose of a
    parent is the mean of the votes, weighted by couplings and activations of the
    children. Its activation is its share of the activations of all children:

    - `c_ij = softmax_j(u_i · w_ij + b_ij)`
    - `a_j = Σ_i c_ij a_i / Σ_i a_i`
    - `p_j = Σ_i c_ij a_i V_ij / Σ_i c_ij a_i`

    The classifiers `w` and `b` start at zero. There are no iterations. The activations
    of the parents sum to 1, or to less if the activations of the children sum to less
    than a thousandth of the number of children. The denominator of `p_j` is at least a
    thousandth of the mass that a parent gets if all children are active and divided
    equally, which bounds the gradients. The poses are batch-normalized, each parent
    type by itself.

    Args:
        momentum: momentum of the moving averages of batch normalization.
        block: how many images are routed at a time. `None` chooses the number, see
            `MomentRouting`. It changes speed and memory, not the result.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices from poses to votes.
        activations: activations of the children, clipped to lie from 0 to 1.
        receptive_fields: the `ops.ReceptiveFields` of the layer. Each field is routed
            by itself; all fields share the classifiers.
        mask: True for each child, False for padding.
        training: whether batch normalization uses the statistics of the batch or its
            moving averages.

    Input shape:
        `poses` `(batch, children, P, Q)`, `kernel` `(children, parents, Q, R)`
        and `activations` `(batch, children)`, in any float dtype. The classifiers have
        shapes `(children, parents, P · Q)` and `(children, parents)`, with one child if
        the children share one matrix.

    Output shape:
        Poses `(batch, parents, P, R)` and activations `(batch, parents)`, at
        least float32.

    Raises:
        ValueError: an argument is out of its range, activations are missing, or
            the shapes do not fit together.

    Example:

    >>> import keras
    >>> from keras_capsules import layers
    >>> layer = layers.DigitCapsule(10, 16, routing="self")
    >>> poses, activations = layer(keras.random.normal((2, 72, 8)))
    >>> tuple(poses.shape), tuple(activations.shape)
    ((2, 10, 16), (2, 10))

    Reference:
        Hahn, Pyeon and Kim, Self-routing capsule networks (2019), section 3.
    """

    computes_activations = True
    learns_for_each_child = True
    needs_activations = True

    def __init__(
        self, momentum: float = 0.9, block: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(iterations=1, block=block, **kwargs)
        self.momentum = validation.check_momentum("momentum", momentum)
        self.pose_norm = BatchNormalization(axis=1, momentum=momentum, name="pose_norm")
        self.freeze_sublayers()

    def build(self, poses_shape, kernel_shape):
        children, parents, _, columns = kernel_shape
        _, _, rows, size = poses_shape
        shape = children or 1, parents
        self.weight = self.add_weight(
            name="weight", shape=(*shape, rows * size), initializer="zeros"
        )
        self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros")
        # Normalization does not compute votes: it has the precision of the variables,
        # but at least float32.
        self.pose_norm.dtype_policy = dtype_at_least_float32(self.variable_dtype)
        self.pose_norm.build((None, parents, rows * columns))

    # c_ij a_i
    def initial_weights(self, inputs):
        _, children, rows, size = ops.shape(inputs.poses)
        poses = ops.reshape(inputs.poses, (-1, children, rows * size))
        if self.weight.shape[0] == 1:
            logits = ops.einsum("nih,jh->nji", poses, self.weight[0])
        else:
            logits = ops.einsum("nih,ijh->nji", poses, self.weight)
        logits = logits + ops.transpose(self.bias)  # (batch, parents, children)
        return compete(logits, amounts=inputs.probabilities)

    # a_j and p_j
    def update_parents(self, moments, iteration, inputs):
        mass, least = moments.mass, inputs.least_mass  # (batch, parents, 1)
        total = ops.sum(mass, axis=1, keepdims=True)
        shares = mass / at_least(total, inputs.parents * least)
        poses = moments.sum / at_least(mass, least)  # (batch, parents, D)
        return {"parents": poses, "activations": shares[..., 0]}

    def finalize(self, parents, training=None):
        poses = self.pose_norm(parents["parents"], training=training)
        return {**parents, "parents": poses}

    def get_config(self):
        config = {**super().get_config(), "momentum": self.momentum}
        for name in ("iterations", "loop", "stop_gradient"):
            del config[name]
        return config
