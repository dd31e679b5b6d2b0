from typing import Any

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules.routing import _engine
from keras_capsules.routing.moments import Moments, Polynomial
from keras_capsules.routing.routing import Routing, RoutingInputs, check_result


@keras.saving.register_keras_serializable(package="keras_capsules")
class MomentRouting(Routing):
    """Base class of routings that need only weighted sums over the votes.

    Dynamic routing and EM routing alternate two steps. One computes weights that couple
    children to parents (the E-step, or the softmax of dynamic routing), the other
    computes parents from weighted sums over the votes (the M-step, or the squashed
    sum). A subclass defines these steps by four methods, the hooks:

    - `initial_weights` returns `w_ij` of the first iteration.
    - `update_parents` computes the parents from the `Moments`, `Σ_i w_ij V_ij` and
      similar sums.
    - `score_coefficients` returns the agreement of a vote with a parent, as a
      polynomial of the vote.
    - `update_weights` computes `w_ij` from these scores.

    Hooks use weights as in any layer, for example `self.beta_u`. They are
    differentiated with respect to the weights, the poses and the activations. They
    have to be deterministic, because they run again for the gradient.

    Votes are not stored. Images are routed in blocks: the votes of a block are computed
    once, used by all iterations, and dropped. The backward pass computes them again.
    Only the moments `(batch, parents, …)` are stored in between. Second derivatives use
    plain automatic differentiation, which stores all votes. Forward-mode
    differentiation on JAX works for the gradient, as in `jax.hessian`, but not for the
    routing itself.

    Args:
        iterations: how many times the parents are computed, at least 1.
        loop: how the graph holds the iterations: `"while"` as one loop
            (`tf.while_loop` on TensorFlow), so that the graph does not grow with their
            number; `"unroll"` one after the other. The graph of the gradient is always
            unrolled. The values and gradients are the same.
        stop_gradient: whether the gradient treats the scores as constants, which is
            faster. By default the gradient flows through every iteration.
        block: how many images are routed at a time. `None` chooses a power of 2, so
            that the votes of a block take at most 16 MB on a CPU, or a fortieth of the
            memory of an accelerator, unless the kernel or the votes of one image are
            larger. With fused kernels, which store no votes, blocks are larger. It
            changes speed and memory, not the result.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Attributes:
        second_moments: whether `update_parents` uses squares of votes, and
            `score_coefficients` returns a quadratic term. False by default.
        accumulates_scores: whether scores are added up over the iterations. False by
            default.

    Raises:
        ValueError: an argument is out of its range, or, when the routing is called, a
            hook returns a wrong shape.

    Example:

    >>> import keras
    >>> from keras_capsules import layers, routing
    >>> class DirectionRouting(routing.MomentRouting):
    ...     def update_weights(self, scores, inputs):
    ...         return keras.ops.softmax(scores, axis=1)
    ...
    ...     def update_parents(self, moments, iteration, inputs):
    ...         return {"parents": keras.ops.normalize(moments.sum)}
    ...
    ...     def score_coefficients(self, parents):
    ...         return routing.Polynomial(linear=parents["parents"])
    >>> layer = layers.DigitCapsule(10, 16, routing=DirectionRouting())
    >>> tuple(layer(keras.random.normal((2, 1152, 8))).shape)
    (2, 10, 16)

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        procedure 1; Hinton, Sabour and Frosst, Matrix capsules with EM routing
        (2018), procedure 1; Dao et al., FlashAttention (2022), section 3, which
        recomputes the scores of attention in the same way.
    """

    second_moments = False
    accumulates_scores = False

    def __init__(
        self,
        iterations: int = 3,
        loop: str = "unroll",
        stop_gradient: bool = False,
        block: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.iterations = validation.check_positive_integer("iterations", iterations)
        self.loop = validation.check_one_of("loop", loop, ("while", "unroll"))
        self.stop_gradient = validation.check_flag("stop_gradient", stop_gradient)
        if block is not None:
            validation.check_positive_integer("block", block)
        self.block = block

    def get_config(self):
        return {
            **super().get_config(),
            "iterations": self.iterations,
            "loop": self.loop,
            "stop_gradient": self.stop_gradient,
            "block": self.block,
        }

    # Hooks, defined by subclasses.

    def initial_weights(self, inputs: RoutingInputs) -> Any:
        """Returns the weights of the first iteration.

        By default they are computed by `update_weights` from scores of zero.

        Args:
            inputs: poses, activations, receptive fields and mask of the children.

        Returns:
            `(batch, parents, children)`; or `(batch, 1, children)` if they are the
            same for all parents, which makes the first iteration faster.
        """
        zeros = ops.zeros_like(inputs.ones)
        zeros = ops.tile(zeros, (1, inputs.parents, 1))
        weights = self.update_weights(zeros, inputs)
        check_result(self, "update_weights", weights, zeros.shape)
        return weights

    def update_weights(self, scores: Any, inputs: RoutingInputs) -> Any:
        """Computes the weights of the next iteration, the E-step.

        Args:
            scores: how well each vote agrees with each parent,
                `(batch, parents, children)`.
            inputs: poses, activations, receptive fields and mask of the children.

        Returns:
            Weights `(batch, parents, children)`.
        """
        raise NotImplementedError

    def update_parents(
        self, moments: Moments, iteration: Any, inputs: RoutingInputs
    ) -> dict:
        """Computes the parents from the moments of their votes, the M-step.

        Args:
            moments: weighted sums over the votes.
            iteration: the number of the iteration from 0, a scalar tensor.
            inputs: poses, activations, receptive fields and mask of the children.

        Returns:
            A dict of tensors: `parents`, the poses `(batch, parents, D)`, flattened
            row by row; `activations` `(batch, parents)` if the routing computes them;
            and any other tensors `(batch, parents, …)` that `score_coefficients` or
            the trace needs.
        """
        raise NotImplementedError

    def score_coefficients(self, parents: dict) -> Polynomial:
        """Returns the agreement of votes with each parent, as a polynomial of the vote.

        Args:
            parents: the dict that `update_parents` returned.

        Returns:
            The coefficients of the polynomial.
        """
        raise NotImplementedError

    # Methods of `Routing`.

    def _last(self, kernel, inputs):
        return _engine.route(self, kernel, inputs)

    def _steps(self, all_votes, kernel, inputs):
        return _engine.steps(self, kernel, inputs)
