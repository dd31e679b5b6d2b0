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

    Both papers alternate two steps: children choose how much of them each parent gets
    (the E-step, or the softmax of dynamic routing), and parents are computed from sums
    over the votes that they get (the M-step, or the squashed sum). A subclass writes
    these steps:

    - `initial_weights`: `w_ij` of the first iteration;
    - `update_parents`: parents from `Σ_i w_ij V_ij` and the like, the `Moments`;
    - `score_coefficients`: how well a vote agrees with a parent, a polynomial of the
      vote;
    - `update_weights`: `w_ij` from these scores.

    In them it uses what it learns like any layer, `self.beta_u`; every hook is
    differentiated with respect to that, to the poses and to the activations. The hooks
    have to be deterministic: they run again for the gradient.

    Votes are never kept. Images are routed in blocks; the votes of a block are made,
    serve all iterations, and are dropped. The gradient makes them once more. Between
    the two only moments are kept, `(batch, parents, …)`. Second derivatives are those
    of plain automatic differentiation and keep all votes. On JAX, forward mode goes
    over the gradient, as in `jax.hessian`, not over the routing itself.

    Args:
        iterations: how many times the parents are computed, at least 1.
        loop: `"while"` makes the iterations one loop in the graph (`tf.while_loop` on
            TensorFlow), however many there are; `"unroll"` writes every iteration
            out, as the gradient does with both. The values and gradients are the same.
        stop_gradient: whether the gradient takes the scores as constants. Faster; by
            default it flows through every iteration.
        block: how many images are routed at a time. `None` chooses a power of 2: the
            votes of a block take 16 MB at most, or a fortieth of an accelerator's
            memory, unless the kernel or the votes of one image are larger. It changes
            speed and memory, not the result.
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Attributes:
        second_moments: whether `update_parents` uses squares of votes, and
            `score_coefficients` a quadratic term.
        accumulates_scores: whether a child adds the scores of all iterations up.

    Raises:
        ValueError: an argument is out of its range; when it is called, a hook returns
            something of another shape than it should.

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
        (2018), procedure 1. Making votes again instead of keeping them is what Dao et
        al., FlashAttention (2022), section 3, does for the scores of attention.
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

    # What a subclass writes.

    def initial_weights(self, inputs: RoutingInputs) -> Any:
        """Returns the weights of the first iteration.

        By default they are what `update_weights` makes of scores of zero.

        Args:
            inputs: poses, activations, receptive fields and mask of the children.

        Returns:
            `(batch, parents, children)`; or `(batch, 1, children)` if they are the
            same for all parents, for which the first parents are quicker to compute.
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
            and what else `score_coefficients` or the trace needs,
            `(batch, parents, …)`.
        """
        raise NotImplementedError

    def score_coefficients(self, parents: dict) -> Polynomial:
        """Returns the agreement of a vote with each parent, as a polynomial.

        Args:
            parents: what `update_parents` returned.

        Returns:
            The coefficients.
        """
        raise NotImplementedError

    # What `Routing` asks for.

    def _last(self, kernel, inputs):
        return _engine.route(self, kernel, inputs)

    def _steps(self, all_votes, kernel, inputs):
        return _engine.steps(self, kernel, inputs)
