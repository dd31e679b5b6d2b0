from typing import Any

import keras
from keras import ops

from keras_capsules import arguments
from keras_capsules.ops import at_least_float32, fixed_loop, squash, votes
from keras_capsules.routing.routing import Routing


@keras.saving.register_keras_serializable(package="keras_capsules")
class DynamicRouting(Routing):
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
        loop: `"while"` puts one loop into the graph (`tf.while_loop` on
            TensorFlow), whatever the number of iterations; `"unroll"` writes
            every iteration out. The values and gradients are the same.
        stop_gradient: whether the logits are taken as constants by the
            gradient. Faster; by default it flows through every iteration.
        **kwargs: `name` and the other arguments of `keras.layers.Layer`.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices that make votes of poses.
        activations: activations of the children. Not used: the length of a
            pose already says how present a child is.
        fields: not used: each receptive field routes on its own.

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

    def __init__(
        self,
        iterations: int = 3,
        loop: str = "while",
        stop_gradient: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.iterations = arguments.positive_integer("iterations", iterations)
        self.loop = arguments.one_of("loop", loop, ("while", "unroll"))
        self.stop_gradient = arguments.flag("stop_gradient", stop_gradient)

    def call(self, poses, kernel, activations=None, fields=None):
        u = self._votes(poses, kernel)
        # The votes that the logits see, and the logits themselves.
        u_b = ops.stop_gradient(u) if self.stop_gradient else u
        b = self._initial_logits(u)

        def update(b):
            return b + self._agreement(u_b, self._parents(u_b, self._couplings(b)))

        if self.loop == "while":
            b = fixed_loop(update, b, self.iterations - 1)
        else:
            for _ in range(self.iterations - 1):
                b = update(b)
        v = self._parents(u, self._couplings(b))  # (batch, parents, P·R)
        return self._as_matrices(v, poses, kernel)

    def trace(
        self, poses: Any, kernel: Any, activations: Any = None, fields: Any = None
    ) -> dict:
        """What happens in each iteration, to look at.

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
        u = self._votes(poses, kernel)
        b = self._initial_logits(u)
        couplings, parents = [], []
        for _ in range(self.iterations):
            c = self._couplings(b)
            v = self._parents(u, c)
            b = b + self._agreement(u, v)
            couplings.append(c)
            parents.append(self._as_matrices(v, poses, kernel))
        return {"couplings": ops.stack(couplings), "poses": ops.stack(parents)}

    def compute_output_shape(
        self, poses_shape, kernel_shape, activations_shape=None, fields_shape=None
    ):
        return (poses_shape[0], kernel_shape[1], poses_shape[2], kernel_shape[3])

    def get_config(self):
        return {
            **super().get_config(),
            "iterations": self.iterations,
            "loop": self.loop,
            "stop_gradient": self.stop_gradient,
        }

    def _votes(self, poses, kernel):
        u = at_least_float32(votes(poses, kernel))
        _, parents, children, rows, columns = u.shape
        # A pose is flattened: (batch, parents, children, P·R)
        return ops.reshape(u, (-1, parents, children, rows * columns))

    def _initial_logits(self, u):
        return ops.zeros_like(ops.transpose(u[..., 0], (0, 2, 1)))

    def _couplings(self, b):
        return ops.softmax(b, axis=-1)  # (batch, children, parents)

    def _parents(self, u, c):
        # As matrix products: (1, children) · (children, P·R) for each parent.
        c = ops.expand_dims(ops.transpose(c, (0, 2, 1)), 2)
        s = ops.matmul(c, u)  # (batch, parents, 1, P·R)
        return squash(ops.squeeze(s, 2))

    def _agreement(self, u, v):
        # (children, P·R) · (P·R, 1) for each parent.
        agreement = ops.squeeze(ops.matmul(u, ops.expand_dims(v, 3)), 3)
        return ops.transpose(agreement, (0, 2, 1))  # (batch, children, parents)

    def _as_matrices(self, v, poses, kernel):
        return ops.reshape(v, (-1, kernel.shape[1], poses.shape[2], kernel.shape[3]))
