from typing import Any

import keras

from keras_capsules import validation
from keras_capsules.ops import compete, squash
from keras_capsules.routing._kernels import LENGTH, stddev_for
from keras_capsules.routing.moment_routing import MomentRouting
from keras_capsules.routing.moments import Polynomial


@keras.saving.register_keras_serializable(package="keras_capsules")
class DynamicRouting(MomentRouting):
    """Dynamic routing: couplings grow with the agreement of votes and parents.

    The couplings of a child are a softmax of its logits over the parents. The pose of
    a parent is the squashed sum of the votes for it, weighted by their couplings. The
    logit of a child for a parent grows by the agreement of its vote with that pose:

    - `c_ij = softmax_j(b_ij)`
    - `v_j = squash(Σ_i c_ij û_j|i)`
    - `b_ij ← b_ij + û_j|i · v_j`

    The logits start at zero and change after every iteration but the last. The
    activation of a parent is the length of its pose.

    Args:
        iterations: how many times the parents are computed, at least 1.
        loop: how the graph holds the iterations: `"while"` as one loop
            (`tf.while_loop` on TensorFlow), so that the graph does not grow with their
            number; `"unroll"` one after the other. The graph of the gradient is always
            unrolled. The values and gradients are the same.
        stop_gradient: whether the gradient treats the logits as constants, which is
            faster. By default the gradient flows through every iteration.
        block: how many images are routed at a time. `None` chooses the number, see
            `MomentRouting`. It changes speed and memory, not the result.
        use_bias: whether a bias, initially zero, is added before the squash,
            `v_j = squash(Σ_i c_ij û_j|i + β_j)`. Without it capsules cannot distinguish
            an input from its negative.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices from poses to votes.
        activations: activations of the children. Not used: the length of a pose is
            the activation of the child.
        receptive_fields: the `ops.ReceptiveFields` of the layer, which define the rows
            of the batch that belong to one image. Each field is routed by itself.
        mask: True for each child, False for padding.

    Input shape:
        `poses` `(batch, children, P, Q)` and `kernel`
        `(children, parents, Q, R)`, in any float dtype. The votes are computed
        in that dtype, everything after them in at least float32. The bias has shape
        `(parents, P · R)`.

    Output shape:
        `(batch, parents, P, R)`, at least float32.

    Raises:
        ValueError: an argument is out of its range, or the shapes do not fit
            together.

    Example:

    >>> import keras
    >>> from keras_capsules import routing
    >>> poses = keras.random.normal((2, 1152, 1, 8))
    >>> kernel = keras.random.normal((1152, 10, 8, 16))
    >>> parents = routing.DynamicRouting(iterations=3)(poses, kernel)
    >>> tuple(parents.shape)
    (2, 10, 1, 16)

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        procedure 1 and equations 1 to 3; Peer, Stabinger and Rodríguez-Sánchez,
        Limitation of capsule networks (2021), for the bias.
    """

    accumulates_scores = True

    def __init__(
        self,
        iterations: int = 3,
        loop: str = "while",
        stop_gradient: bool = False,
        block: int | None = None,
        use_bias: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(iterations, loop, stop_gradient, block, **kwargs)
        self.use_bias = validation.check_flag("use_bias", use_bias)

    def build(self, poses_shape, kernel_shape):
        self.bias = None
        if self.use_bias:
            shape = kernel_shape[1], poses_shape[2] * kernel_shape[3]
            self.bias = self.add_weight(name="bias", shape=shape, initializer="zeros")

    # The gradient of squash is small for short poses. The initial parents are therefore
    # about as long as their children, whatever the numbers of children and parents.
    def kernel_stddev(self, kernel_shape):
        _, parents, _, columns = kernel_shape
        # |s_j| of the last iteration, from |squash(s)| = |s|² / (1 + |s|²).
        norm = (LENGTH / (1.0 - LENGTH)) ** 0.5
        # Agreement makes s_j longer from iteration to iteration. The exponent and the
        # factor were fitted to random votes.
        growth = 1.0 + 0.7 * (self.iterations - 1) * parents / columns
        return stddev_for(norm / growth**0.25, kernel_shape)

    # Procedure 1, line 2: b_ij = 0, so that c_ij is the same for all parents.
    def initial_weights(self, inputs):
        return inputs.ones / inputs.parents  # (batch, 1, children)

    # Line 4: c_i = softmax(b_i).
    def update_weights(self, scores, inputs):
        return compete(scores)  # (batch, parents, children)

    # Lines 5 and 6: s_j = Σ_i c_ij û_j|i, v_j = squash(s_j).
    def update_parents(self, moments, iteration, inputs):
        total = moments.sum  # (batch, parents, D)
        return {"parents": squash(total + self.bias if self.use_bias else total)}

    # Line 7: b_ij grows by û_j|i · v_j.
    def score_coefficients(self, parents):
        return Polynomial(linear=parents["parents"])

    def get_config(self):
        return {**super().get_config(), "use_bias": self.use_bias}
