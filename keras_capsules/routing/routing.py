from collections.abc import Iterator
from typing import Any, NamedTuple

import keras
from keras import ops

from keras_capsules import validation
from keras_capsules._backend import not_compiled
from keras_capsules.nested import Nested
from keras_capsules.ops import ReceptiveFields, at_least_float32
from keras_capsules.ops.norms import at_least, dtype_at_least_float32
from keras_capsules.ops.votes import check_poses_and_kernel, votes


class RoutingInputs(NamedTuple):
    """The inputs of a routing apart from the votes.

    Gradients flow to the poses and the activations.

    Attributes:
        poses: poses of the children, `(batch, children, P, Q)`, at least float32.
        activations: activations of the children, `(batch, children)`, at least
            float32; `None` for a routing that does not need them.
        receptive_fields: the `ops.ReceptiveFields` of the layer. Each field of each
            image is a row of the batch, number `image · fields + field`. If all
            children of an image vote for all parents, there is one field.
        parents: number of parents.
        mask: 1 for each child, 0 for padding, `(batch, children)`; `None` if nothing
            is masked. A masked child has a pose and an activation of 0.
    """

    poses: Any
    activations: Any
    receptive_fields: ReceptiveFields
    parents: int
    mask: Any = None

    @property
    def ones(self) -> Any:
        """1 for each child, 0 if it is masked, `(batch, 1, children)`."""
        if self.mask is not None:
            return self.mask[:, None]
        return ops.ones_like(self.poses[:, None, :, 0, 0])

    @property
    def probabilities(self) -> Any:
        """The activations, clipped to lie from 0 to 1, `(batch, children)`."""
        return ops.clip(self.activations, 0.0, 1.0)

    @property
    def least_mass(self) -> Any:
        """The smallest divisor of sums of votes, `(batch, 1, 1)`.

        It is a thousandth of the mass of a parent if every child is active and divided
        equally among the parents. It bounds the gradient of parents with less mass.
        """
        least = ops.sum(self.ones, axis=-1, keepdims=True) * 1e-3 / self.parents
        return at_least(least, 1e-6)  # where all children are masked


@keras.saving.register_keras_serializable(package="keras_capsules")
class Routing(Nested, keras.layers.Layer):
    """Base class of routing algorithms.

    A subclass defines `route`, a generator that receives all votes and yields the
    result of each iteration. A routing that only needs weighted sums of the votes over
    the children should derive from `MomentRouting` instead, which does not store votes.

    A routing computes in the dtype of the votes, but at least in float32. The layer
    that owns the kernel chooses the precision of the votes.

    Args:
        **kwargs: `name`, `dtype` and the other arguments of `keras.layers.Layer`.

    Attributes:
        computes_activations: whether the routing also returns activations of the
            parents. False by default.
        length_is_activation: for a routing that computes no activations, whether the
            length of a pose, from 0 to 1, is the activation of the parent. If it is
            not, networks learn a score from the pose. True by default.
        learns_for_each_child: whether the routing has weights for each child, so that
            the number of children is fixed. False by default.
        needs_activations: whether the routing requires activations of the children.
            False by default.
        traced: names of further results of an iteration that `trace` returns.

    Call arguments:
        poses: poses of the children.
        kernel: the transformation matrices from poses to votes.
        activations: activations of the children.
        receptive_fields: the `ops.ReceptiveFields` of the layer, if the children of
            one image are spread over several rows of the batch.
        mask: True for each child, False for padding, which is ignored.
        training: whether the call is part of training, for `finalize`.

    Input shape:
        `poses` `(batch, children, P, Q)`, `kernel` `(children, parents, Q, R)`,
        `activations` and `mask` `(batch, children)`.

    Output shape:
        Poses `(batch, parents, P, R)` and, if the routing computes them, activations
        `(batch, parents)`.

    Raises:
        ValueError: the shapes do not fit together, activations that the routing needs
            are missing, or `route` yields a wrong shape.

    Example:

    >>> import keras
    >>> from keras_capsules import layers, routing
    >>> class MeanRouting(routing.Routing):
    ...     length_is_activation = False
    ...
    ...     def route(self, votes, inputs):
    ...         weights = keras.ops.ones_like(votes[..., 0]) / inputs.parents
    ...         total = keras.ops.sum(weights[..., None] * votes, axis=2)
    ...         yield {"weights": weights, "parents": total}
    >>> layer = layers.DigitCapsule(10, 16, routing=MeanRouting())
    >>> tuple(layer(keras.random.normal((2, 1152, 8))).shape)
    (2, 10, 16)
    """

    computes_activations = False
    length_is_activation = True
    learns_for_each_child = False
    needs_activations = False
    traced = ()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "autocast": False})
        self.supports_masking = True

    # Methods for subclasses to define.

    def build(self, poses_shape: tuple, kernel_shape: tuple) -> None:
        """Creates the weights of the routing.

        Args:
            poses_shape: `(batch, children, P, Q)`, every size known but the batch.
            kernel_shape: `(children, parents, Q, R)`. If all children share one matrix,
                `children` is `None` in both shapes: the number of children may vary,
                so they have to share the weights of the routing as well.
        """

    def kernel_stddev(self, kernel_shape: tuple) -> float:
        """Returns the standard deviation of the initial kernel of a layer.

        By default it gives votes variance 1 if the elements of poses have size 1.

        Args:
            kernel_shape: `(children, parents, Q, R)`, with all children that a parent
                receives votes from; `children` is `None` if their number may vary.

        Returns:
            The standard deviation.
        """
        return kernel_shape[2] ** -0.5

    def route(self, votes: Any, inputs: RoutingInputs) -> Iterator[dict]:
        """Yields the result of each iteration.

        Args:
            votes: `(batch, parents, children, D)`, at least float32. A pose is
                flattened row by row into D = P · R elements. The votes of a masked
                child are 0. `inputs.ones` is 0 for masked children, if that is needed.
            inputs: poses, activations, receptive fields and mask of the children.

        Yields:
            A dict of tensors: `weights`, the coupling of each child to each parent,
            `(batch, parents, children)`; `parents`, the poses `(batch, parents, D)`;
            `activations` `(batch, parents)` if the routing computes them; optionally
            `scores` `(batch, parents, children)`, from which the weights were computed;
            and the tensors that `traced` names.
        """
        raise NotImplementedError

    def finalize(self, parents: dict, training: bool | None = None) -> dict:
        """Computes the outputs of the routing from the parents of the last iteration.

        It is called with the whole batch, so batch normalization belongs here. By
        default it returns its argument.

        Args:
            parents: `parents` `(batch, parents, D)` and, if the routing computes
                them, `activations` `(batch, parents)`.
            training: whether the call is part of training.

        Returns:
            A dict of the same keys and shapes.
        """
        return parents

    # Methods for users to call.

    @not_compiled
    def call(
        self,
        poses,
        kernel,
        activations=None,
        receptive_fields=None,
        mask=None,
        training=None,
    ):
        inputs, kernel = self._inputs(
            poses, kernel, activations, receptive_fields, mask
        )
        found = self.finalize(self._last(kernel, inputs), training)
        parents = self._as_matrices(found["parents"], inputs, kernel)
        return (parents, found["activations"]) if self.computes_activations else parents

    def trace(
        self,
        poses: Any,
        kernel: Any,
        activations: Any = None,
        receptive_fields: ReceptiveFields | None = None,
        mask: Any = None,
    ) -> dict:
        """Returns the results of each iteration. It stores all votes in memory.

        Args:
            poses: as for calling the routing.
            kernel: as for calling the routing.
            activations: as for calling the routing.
            receptive_fields: as for calling the routing.
            mask: as for calling the routing.

        Returns:
            A dict of tensors whose first axis is the iteration:

            - `weights`: the coupling of each child to each parent, `(iterations, batch,
                parents, children)`;
            - `scores`: the scores that the weights were computed from, of the same
                shape; zeros if the routing has none;
            - `distances`: the distance of each vote from the pose of the parent before
                `finalize`, of the same shape;
            - `parents`: the poses, `(iterations, batch, parents, P, R)`;
            - `activations`: `(iterations, batch, parents)`, if the routing computes
                them.

            The dict also has the tensors that `traced` names, for example `means` and
            `variances` of `EMRouting`.
        """
        if not self.built:
            self.build(tuple(poses.shape), tuple(kernel.shape))
        inputs, kernel = self._inputs(
            poses, kernel, activations, receptive_fields, mask
        )
        all_votes = _flat_votes(inputs.poses, kernel)
        steps = []
        for found in self._steps(all_votes, kernel, inputs):
            away = all_votes - ops.expand_dims(found["parents"], 2)
            away = self._as_matrices(away, inputs, kernel)
            step = {
                "weights": found["weights"],
                "scores": found.get("scores", ops.zeros_like(found["weights"])),
                "distances": ops.sqrt(ops.sum(ops.square(away), axis=(-2, -1))),
                **{name: found[name] for name in self.traced},
                **self.finalize(_returned(found)),
            }
            step["parents"] = self._as_matrices(step["parents"], inputs, kernel)
            steps.append(step)
        return {name: ops.stack([step[name] for step in steps]) for name in steps[0]}

    def compute_output_shape(
        self,
        poses_shape,
        kernel_shape,
        activations_shape=None,
        receptive_fields_shape=None,
        mask_shape=None,
    ):
        parents = poses_shape[0], kernel_shape[1]
        shape = (*parents, poses_shape[2], kernel_shape[3])
        return (shape, parents) if self.computes_activations else shape

    def compute_mask(self, *args, **kwargs):
        """Returns `None`, because every image has all parents."""

    def get_build_config(self):
        """Returns `None`, because the layer that owns the kernel builds the routing."""

    # Methods that `MomentRouting` overrides.

    def _last(self, kernel, inputs):
        """Returns the parents of the last iteration."""
        for step in self._steps(_flat_votes(inputs.poses, kernel), kernel, inputs):
            last = step
        return _returned(last)

    def _steps(self, all_votes, kernel, inputs):
        """Yields the results of each iteration."""
        of_poses = (*all_votes.shape[:2], all_votes.shape[3])
        expected = {"weights": all_votes.shape[:3], "parents": of_poses}
        if self.computes_activations:
            expected["activations"] = of_poses[:2]
        inputs = inputs._replace(poses=at_least_float32(inputs.poses))
        expected = {**dict.fromkeys(self.traced), **expected}
        step = None
        for step in self.route(all_votes, inputs):
            check_result(self, "route", step, expected)
            yield step
        if step is None:
            raise ValueError(
                f"`route` of {type(self).__name__} must yield what it finds, at least "
                "once. Received: nothing"
            )

    def _inputs(self, poses, kernel, activations, receptive_fields, mask):
        check_poses_and_kernel(poses.shape, kernel.shape)
        kernel = ops.cast(kernel, poses.dtype)
        of_children = {"activations": activations, "mask": mask}
        for name, x in of_children.items():
            if x is not None:
                _check_value_of_each_child(name, poses.shape, x.shape)
        if not self.needs_activations:
            activations = None
        elif activations is not None:
            activations = ops.cast(activations, dtype_at_least_float32(poses.dtype))
        else:
            raise ValueError(
                f"Argument `activations` is missing: {type(self).__name__} needs "
                "activations of the children. Received: activations=None"
            )
        if receptive_fields is None:
            receptive_fields = ReceptiveFields.whole(kernel.shape[0])
        _check_receptive_fields(poses.shape, receptive_fields)
        if mask is not None:
            there = ops.cast(mask, "bool")
            # Padding may be infinite, and infinity times 0 is NaN.
            poses = ops.where(there[..., None, None], poses, 0.0)
            if activations is not None:
                activations = ops.where(there, activations, 0.0)
            mask = ops.cast(there, dtype_at_least_float32(poses.dtype))
        poses, kernel = self._extended(poses, kernel)
        parents = kernel.shape[1]
        inputs = RoutingInputs(poses, activations, receptive_fields, parents, mask)
        return inputs, kernel

    def _extended(self, poses, kernel):
        """Returns poses and kernel; a routing may extend them to extend the votes."""
        return poses, kernel

    def _as_matrices(self, x, inputs, kernel):
        """Reshapes `(batch, …, P·R)` to `(batch, …, P, R)`."""
        matrix = inputs.poses.shape[2], kernel.shape[3]
        return ops.reshape(x, (-1, *ops.shape(x)[1:-1], *matrix))


def check_result(routing: Routing, hook: str, result: Any, expected: Any) -> None:
    """Raises an error if a method of a routing returned a wrong shape.

    Args:
        routing: the routing.
        hook: name of the method.
        result: the returned tensor or dict of tensors.
        expected: the expected shape, or a dict of shapes by name, where `None` allows
            any shape. The size of the batch is not checked.

    Raises:
        ValueError: a name is missing, or a shape is wrong.
    """
    owner = f"`{hook}` of {type(routing).__name__}"
    must = "must yield" if hook == "route" else "must return"
    if not isinstance(expected, dict):
        expected, result = {"": expected}, {"": result}
    if not isinstance(result, dict) or expected.keys() - result.keys():
        names = sorted(result) if isinstance(result, dict) else type(result).__name__
        raise ValueError(
            f"{owner} {must} a dict with {sorted(expected)}. Received: {names}"
        )
    for name, shape in expected.items():
        if shape is None:
            continue
        received = tuple(getattr(result[name], "shape", ()))
        known = zip(received[1:], shape[1:], strict=False)
        if len(received) != len(shape) or any(
            a != b for a, b in known if None not in (a, b)
        ):
            words = ", ".join(map(str, ("batch", *shape[1:])))
            named = f"{name!r} of shape" if name else "a tensor of shape"
            raise ValueError(
                f"{owner} {must} {named} ({words}). Received shape: {received}"
            )


def _flat_votes(poses, kernel):
    """Computes all votes, (batch, parents, children, P·R)."""
    all_votes = at_least_float32(votes(poses, kernel))
    _, parents, children, rows, columns = ops.shape(all_votes)
    return ops.reshape(all_votes, (-1, parents, children, rows * columns))


def _returned(step):
    """Returns the results of an iteration that are outputs of the routing."""
    return {name: step[name] for name in ("parents", "activations") if name in step}


def _check_value_of_each_child(name, poses_shape, shape):
    validation.check_shape(name, shape, "(batch, children)", 2)
    pairs = zip(shape, poses_shape, strict=False)
    # The number of images is not known in every graph.
    if any(a != b for a, b in pairs if isinstance(a, int) and isinstance(b, int)):
        raise ValueError(
            f"Argument `{name}` must have the shape (batch, children) of the "
            f"poses, {tuple(poses_shape[:2])}. Received: {tuple(shape)}"
        )


def _check_receptive_fields(poses_shape, receptive_fields):
    batch, count = poses_shape[:2]
    if count is None:
        return
    fields, places = receptive_fields.children.shape
    if places != count or (isinstance(batch, int) and batch % fields):
        raise ValueError(
            f"Argument `receptive_fields` has {fields} fields of {places} children; "
            "poses must have a row for each field of each image. Received: poses of "
            f"shape {tuple(poses_shape)}"
        )
