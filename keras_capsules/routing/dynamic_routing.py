from typing import Any

import keras
from keras import ops

from keras_capsules import arguments
from keras_capsules.ops import Votes, by_child, compete, squash
from keras_capsules.routing.moment_routing import MomentRouting


@keras.saving.register_keras_serializable(package="keras_capsules")
class DynamicRouting(MomentRouting):
    """Routing by agreement between the votes and the pose of a parent.

    Each child splits itself over the parents by a softmax of its logits, each
    parent is the squashed sum of the votes it gets, and a child whose vote
    agrees with a parent gives that parent more:

    - `c_ij = softmax_j(b_ij)`
    - `v_j = squash(Σ_i c_ij û_j|i)`
    - `b_ij ← b_ij + û_j|i · v_j`

    The logits start at zero and change after every iteration but the last. The
    activation of a parent is the length of its pose.

    Args:
        iterations: how many times the parents are computed, at least 1.
        loop: `"while"` makes the iterations one loop in the graph
            (`tf.while_loop` on TensorFlow), however many there are; `"unroll"`
            writes every iteration out, as the gradient does with both. The values
            and gradients are the same.
        stop_gradient: whether the logits are taken as constants by the
            gradient. Faster; by default it flows through every iteration.
        block: how many images are routed at a time, see `MomentRouting`. It changes
            speed and memory, not the result.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices that make votes of poses.
        activations: activations of the children. Not used: the length of a
            pose already says how present a child is.
        fields: the `ops.ReceptiveFields` of the layer: they say which rows of the
            batch are one image. Each field routes on its own.

    Input shape:
        `poses` `(batch, children, P, Q)` and `kernel`
        `(children, parents, Q, R)`, in any float dtype. The votes are computed
        in that dtype, everything after them in at least float32.

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
        procedure 1 and equations 1 to 3.
    """

    remembers = True

    def __init__(
        self,
        iterations: int = 3,
        loop: str = "while",
        stop_gradient: bool = False,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(iterations, stop_gradient, block, **kwargs)
        self.loop = arguments.one_of("loop", loop, ("while", "unroll"))

    def call(self, poses, kernel, activations=None, fields=None):
        v = self.route(poses, kernel, (), (), fields)
        return self._as_matrices(v, poses, kernel)

    def assign(self, scores, children, fields):
        return compete(scores)  # (batch, parents, children)

    def begin(self, zeros, parents, children, fields):
        return zeros + 1.0 / parents

    def estimate(self, moments, t, center, learned, fields):
        total, s = moments
        v = squash(s)
        return v, (ops.zeros_like(total), v)

    def trace(
        self, poses: Any, kernel: Any, activations: Any = None, fields: Any = None
    ) -> dict:
        """What happens in each iteration, to look at; it holds all votes.

        Args:
            poses: as for calling the routing.
            kernel: as for calling the routing.
            activations: as for calling the routing.
            fields: as for calling the routing.

        Returns:
            A dict of two tensors: `couplings`
            `(iterations, batch, children, parents)`, which sum to 1 over the
            parents, and `poses` `(iterations, batch, parents, P, R)`.
        """
        matrices = by_child(poses, kernel)
        votes = Votes(poses, matrices, self._begin(poses, matrices, (), fields))
        logits, couplings, parents = ops.zeros_like(votes.first), [], []
        for t in range(self.iterations):
            c = self.assign(logits, (), fields)
            v, stated = self.estimate(votes.moments(c), t, None, (), fields)
            logits = logits + votes.scores(stated)
            couplings.append(ops.transpose(c, (0, 2, 1)))
            parents.append(self._as_matrices(v, poses, kernel))
        return {"couplings": ops.stack(couplings), "poses": ops.stack(parents)}

    def compute_output_shape(
        self, poses_shape, kernel_shape, activations_shape=None, fields_shape=None
    ):
        return (poses_shape[0], kernel_shape[1], poses_shape[2], kernel_shape[3])

    def get_config(self):
        return {
            **super().get_config(),
            "loop": self.loop,
        }

    def _as_matrices(self, v, poses, kernel):
        return ops.reshape(v, (-1, kernel.shape[1], poses.shape[2], kernel.shape[3]))
