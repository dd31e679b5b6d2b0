"""The hooks of a `MomentRouting` as functions of tensors."""

from numbers import Number
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_capsules.ops.norms import at_least_float32, dtype_at_least_float32
from keras_capsules.routing.moments import Moments, Polynomial
from keras_capsules.routing.routing import RoutingInputs, check_result


class Hooks:
    """The hooks of a routing, each as a function of all tensors that it depends on.

    These tensors, apart from the votes, are called the context: the poses, activations
    and mask if they are given, and the weights of the routing. Within a hook an
    attribute such as `self.beta_u` has the value of the tensor in the context, so that
    the gradient with respect to it can be computed.

    Args:
        routing: the `MomentRouting`.
        inputs: its `RoutingInputs`.
        kernel_shape: `(children, parents, Q, R)`.

    Attributes:
        iterations: number of iterations of the routing. `loop`, `stop_gradient` and
            `second_moments` are likewise attributes of the routing.
        powers: number of moments, 2 or 3.
        dtype: dtype of everything but the product that computes the votes.
    """

    def __init__(
        self, routing: Any, inputs: RoutingInputs, kernel_shape: tuple
    ) -> None:
        self._routing = routing
        self.iterations, self.loop = routing.iterations, routing.loop
        self.stop_gradient = routing.stop_gradient
        self.second_moments = routing.second_moments
        self.powers = 3 if self.second_moments else 2
        self.dtype = dtype_at_least_float32(inputs.poses.dtype)
        self._receptive_fields = inputs.receptive_fields
        children, self._parents, _, columns = kernel_shape
        self._of_weights = None, self._parents, children
        self._of_poses = None, self._parents, inputs.poses.shape[2] * columns
        of_children = "poses", "activations", "mask"
        self._rows = [x for x in of_children if getattr(inputs, x) is not None]
        variables = routing.variables
        self._variables = [v for v in variables if "float" in str(v.dtype)]
        # Other variables, such as seeds and counters, have no gradient.
        others = (v for v in variables if "float" not in str(v.dtype))
        self._constants = [(v, ops.copy(v.value)) for v in others]

    # What the hooks depend on.

    def rows(self, inputs: RoutingInputs) -> tuple:
        """Returns the part of the context with a row for each field of each image."""
        return tuple(getattr(inputs, name) for name in self._rows)

    def learned(self) -> tuple:
        """Returns the part of the context that holds the weights of the routing."""
        return tuple(
            # A moving average is updated in place before the gradient is computed,
            # which PyTorch would reject. Non-trainable variables are therefore copied.
            ops.cast(v if v.trainable else ops.copy(v), self.dtype)
            for v in self._variables
        )

    def rows_and_learned(self, context: tuple) -> tuple[tuple, tuple]:
        """Splits a context into `rows` and `learned`."""
        count = len(self._rows)
        return context[:count], context[count:]

    def constants(self) -> tuple | None:
        """Returns what hooks depend on apart from tensors, a key for compiled hooks.

        It is `None` if a weight is not a float, because compiled hooks take only floats
        as inputs.
        """
        if self._constants:
            return None
        settings = (
            (name, type(value), value)
            for name, value in vars(self._routing).items()
            # These attributes hold the state of the layer in PyTorch and Keras.
            if isinstance(value, bool | Number | np.generic | str)
            and name not in ("training", "built", "_called")
        )
        return *settings, self._receptive_fields.key

    # The hooks.

    def initial_weights(self, *context: Any) -> Any:
        """Returns `(batch, parents, children)`, or `(batch, 1, children)`."""
        with self._scope(context):
            inputs = self._inputs(context)
            weights = self._routing.initial_weights(inputs)
        for_all = tuple(getattr(weights, "shape", ()))[1:2] == (1,)
        expected = (None, 1, self._of_weights[2]) if for_all else self._of_weights
        check_result(self._routing, "initial_weights", weights, expected)
        return _masked(weights, inputs)

    def update_weights(self, scores: Any, *context: Any) -> Any:
        """Returns `(batch, parents, children)`."""
        if self.stop_gradient:
            scores = ops.stop_gradient(scores)
        with self._scope(context):
            inputs = self._inputs(context)
            weights = self._routing.update_weights(scores, inputs)
        check_result(self._routing, "update_weights", weights, self._of_weights)
        return _masked(weights, inputs)

    def update_parents(
        self, t: Any, center: Any, moments: tuple, context: tuple
    ) -> dict:
        """Returns the parents of iteration `t`, a dict of tensors."""
        squares = moments[2] if self.second_moments else None
        moments = Moments(moments[0], moments[1], squares, center)
        t = ops.cast(t, self.dtype)
        with self._scope(context):
            found = self._routing.update_parents(moments, t, self._inputs(context))
        expected = {"parents": self._of_poses}
        if self._routing.computes_activations:
            expected["activations"] = self._of_poses[:2]
        expected = {**dict.fromkeys(self._routing.traced), **expected}
        check_result(self._routing, "update_parents", found, expected)
        return found

    def score_coefficients(self, found: dict, center: Any, context: tuple) -> tuple:
        """Returns coefficients of powers of `V − center`, in the moments' shapes."""
        zeros = ops.zeros_like(found["parents"])
        # All within the scope, where a weight has the value of the context.
        with self._scope(context):
            polynomial = self._routing.score_coefficients(found)
            self._check_polynomial(polynomial)
            if not polynomial.is_about(center):
                about = _filled(polynomial.about, zeros)
                polynomial = polynomial._replace(about=about)
            constant, *others = polynomial.recentered(center)[: self.powers]
            constant = _filled(constant, zeros[:, :, 0])
            others = tuple(_filled(x, zeros) for x in others)
        return ops.expand_dims(constant, -1), *others

    def _check_polynomial(self, polynomial):
        hook = f"`score_coefficients` of {type(self._routing).__name__}"
        if not isinstance(polynomial, Polynomial):
            raise ValueError(
                f"{hook} must return a `routing.Polynomial`. Received: {polynomial!r}"
            )
        quadratic = polynomial.quadratic
        absent = isinstance(quadratic, int | float) and not quadratic
        if not self.second_moments and not absent:
            raise ValueError(
                f"{hook} must leave `quadratic` out, or its class must set "
                "`second_moments = True`. Received: second_moments=False"
            )
        for name, coefficient in polynomial._asdict().items():
            parents, size = self._of_poses[1:]
            expected = (parents,) if name == "constant" else (parents, size)
            shape = tuple(getattr(coefficient, "shape", ()))
            # The batch axis is optional.
            shape = shape[1:] if len(shape) > len(expected) else shape
            try:
                fits = np.broadcast_shapes(shape, expected) == expected
            except ValueError:
                fits = False
            if not fits:
                words = ", ".join(map(str, ("batch", *expected)))
                raise ValueError(
                    f"{hook} must return a tensor of shape ({words}) for `{name}`, or "
                    f"one that broadcasts to it. Received shape: {coefficient.shape}"
                )

    def accumulated(self, before: tuple | None, new: tuple) -> tuple:
        """Adds coefficients of scores, or their gradients, if scores accumulate."""
        if self._routing.accumulates_scores and before is not None:
            return tuple(a + b for a, b in zip(before, new, strict=True))
        return tuple(new)

    # The parents as one tensor, which is simpler for a custom gradient.

    def packed(self, found: dict) -> Any:
        """Concatenates the poses and activations of the parents."""
        if not self._routing.computes_activations:
            return found["parents"]
        activations = ops.expand_dims(found["activations"], -1)
        return ops.concatenate([found["parents"], activations], axis=-1)

    def unpacked(self, output: Any) -> dict:
        """Reverses `packed`."""
        if not self._routing.computes_activations:
            return {"parents": output}
        return {"parents": output[..., :-1], "activations": output[..., -1]}

    def _inputs(self, context):
        rows, _ = self.rows_and_learned(context)
        given = {"activations": None, **dict(zip(self._rows, rows, strict=True))}
        given["poses"] = at_least_float32(given["poses"])
        fields = self._receptive_fields
        return RoutingInputs(**given, receptive_fields=fields, parents=self._parents)

    def _scope(self, context):
        learned = zip(self._variables, self.rows_and_learned(context)[1], strict=True)
        return _Variables(self._routing, [*learned, *self._constants])


def _masked(weights, inputs):
    """Sets the weights of masked children to zero."""
    return weights if inputs.mask is None else weights * inputs.ones


def _filled(coefficient, zeros):
    """Broadcasts a coefficient to the shape of `zeros`."""
    shape = tuple(getattr(coefficient, "shape", ()))
    full = len(shape) == len(zeros.shape) and shape[1:] == tuple(zeros.shape[1:])
    if full and shape[0] != 1:
        return coefficient
    return zeros + coefficient


class _Variables(keras.StatelessScope):
    """A scope in which variables of a routing take given values and their dtypes."""

    def __init__(self, routing, pairs):
        super().__init__(initialize_variables=False)
        self.state_mapping = {id(variable): value for variable, value in pairs}
        self._name = type(routing).__name__

    def get_current_value(self, variable):
        value = super().get_current_value(variable)
        if value is None and variable.trainable:
            raise ValueError(
                f"A hook of {self._name} uses a weight that the routing doesn't own, "
                "so that its gradient would be lost. Make weights, and build layers, "
                "in `build`, and keep them as attributes of the routing. Received: "
                f"{variable.path}"
            )
        return value

    def add_update(self, update):
        raise ValueError(
            f"A hook of {self._name} changes a variable. Hooks run for each block of "
            "images and again for the gradient: randomness and moving averages, as "
            "those of batch normalization, belong in `finalize`. Received: "
            f"{update[0].path}"
        )
