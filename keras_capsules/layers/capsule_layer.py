from typing import Any

import keras
from keras import initializers, ops, regularizers

from keras_capsules import routing as routings
from keras_capsules import validation
from keras_capsules._backend import with_static_shape
from keras_capsules.layers.masks import mask_of
from keras_capsules.nested import Nested
from keras_capsules.ops import safe_norm


@keras.saving.register_keras_serializable(package="keras_capsules")
class CapsuleLayer(Nested, keras.layers.Layer):
    """Base class of capsule layers, which compute parent capsules by routing.

    A subclass defines which children connect to each parent, and which children share
    a transformation matrix. It arranges the children and the matrices in the form
    that every routing expects: poses `(batch, children, P, Q)` and a kernel
    `(children, parents, Q, R)`.

    Args:
        capsules: number of parent types.
        pose_shape: shape of a parent's pose: an integer for a vector, `(P, R)` for
            a matrix. P must be the number of rows of the children's poses. `None` for
            the shape of the children's poses.
        routing: a name, an instance or a config of a routing, see
            `keras_capsules.routing.get`.
        kernel_initializer: initializer of the kernel. By default a normal
            distribution with the standard deviation `routing.kernel_stddev`. Keras's
            initializers that scale with the fan-in compute it as for the kernel of a
            convolution.
        kernel_regularizer: regularizer of the kernel.
        share_kernel: whether all children share one matrix for each parent. Weights
            that the routing learns for each child are then shared, too.
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: `(poses, activations)` of the children. Vector poses may be
            passed alone: the activations are then their lengths.
        mask: booleans, True for each child and False for padding, which has no
            influence. Its shape is that of the activations or their first axes, as
            in the mask that Keras passes on from an `Embedding` or `Masking` layer.
        training: whether the call is part of training. It is passed on to the routing,
            which may contain batch normalization.

    Input shape:
        Poses `(batch, …, D)` or `(batch, …, P, Q)`, activations `(batch, …)`.
        The subclass defines the axes between. The kernel has shape
        `(…, capsules, Q, R)`, with Q = D for vectors. With `share_kernel` its axes
        before `capsules` have size 1.

    Output shape:
        Poses `(batch, …, capsules, R)` or `(batch, …, capsules, P, R)` and, if
        the routing computes them, activations `(batch, …, capsules)`, in the
        layer's compute dtype.

    Raises:
        ValueError: an argument is out of its range, the poses or the activations
            do not fit, or the routing already has weights for another layer.

    Example:

    >>> from keras_capsules import layers
    >>> isinstance(layers.DigitCapsule(10), layers.CapsuleLayer)
    True

    Reference:
        Sabour, Frosst and Hinton, Dynamic routing between capsules (2017),
        equation 2; Hinton, Sabour and Frosst, Matrix capsules with EM routing
        (2018), section 2.
    """

    def __init__(
        self,
        capsules: int,
        pose_shape: int | tuple[int, int] | None,
        routing: Any,
        kernel_initializer: Any = None,
        kernel_regularizer: Any = None,
        share_kernel: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True
        self.capsules = validation.check_positive_integer("capsules", capsules)
        self.pose_shape = validation.check_pose_shape("pose_shape", pose_shape)
        self.routing = routings.get(routing)
        self.freeze_sublayers()
        less_precise = _bits(self.routing.variable_dtype) < _bits(self.variable_dtype)
        if less_precise and not self.routing.built:
            # Weights of the routing must not be less precise than the kernel.
            self.routing.dtype_policy = self.dtype_policy
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.kernel_regularizer = regularizers.get(kernel_regularizer)
        self.share_kernel = validation.check_flag("share_kernel", share_kernel)

    def build(self, input_shape):
        shape = self.poses_shape(_poses(input_shape))
        pose = self.child_pose(shape)
        self._built_for = shape
        if self.routing.built and self.routing.weights:
            raise ValueError(
                "Argument `routing` must be an instance of its own for each layer: "
                f"this {type(self.routing).__name__} already learns for another."
            )
        matrix = self.capsules, pose[-1], self._parent_pose(pose)[-1]
        stddev = self.routing.kernel_stddev((self.child_count(shape), *matrix))
        self.kernel = self.add_weight(
            name="kernel",
            shape=(*self._axes_of_weight(shape), *matrix),
            initializer=self.kernel_initializer
            or initializers.RandomNormal(stddev=stddev),
            regularizer=self.kernel_regularizer,
        )
        poses, kernel = self.routing_shapes(shape)
        if self.share_kernel:
            poses, kernel = (None, None, *poses[2:]), (None, *kernel[1:])
        self._children = kernel[0]
        self.routing.build(poses, kernel)

    def call(self, inputs, mask=None, training=None):
        inputs = self._with_static_shapes(inputs)
        arguments = self.arguments_of_routing(inputs, mask)
        outputs = self.routing(**arguments, training=training)
        shapes = self.compute_output_shape(keras.tree.map_structure(_shape, inputs))
        if not self.routing.computes_activations:
            return self._output(outputs, shapes)
        return tuple(map(self._output, outputs, shapes))

    def compute_mask(self, inputs, previous_mask):
        """Returns no mask: every image has all parents."""

    def trace(self, inputs: Any, mask: Any = None) -> dict:
        """Returns the results of each routing iteration.

        Args:
            inputs: as for calling the layer.
            mask: as for calling the layer; by default the masks that Keras has passed
                on with the inputs.

        Returns:
            The trace of the routing, see `routing.Routing.trace`. If the parents form
            a grid, each position is a row of the batch:
            `image · positions + position`.
        """
        if not self.built:
            self.build(keras.tree.map_structure(_shape, inputs))
        if mask is None:
            mask = keras.tree.map_structure(
                lambda x: getattr(x, "_keras_mask", None), inputs
            )
        inputs = keras.tree.map_structure(
            lambda x: ops.cast(x, self.compute_dtype), inputs
        )
        inputs = self._with_static_shapes(inputs)
        return self.routing.trace(**self.arguments_of_routing(inputs, mask))

    def compute_output_shape(self, input_shape):
        shape = self.poses_shape(_poses(input_shape))
        parents = (shape[0], *self.parent_grid(shape), self.capsules)
        poses = (*parents, *self._parent_pose(self.child_pose(shape)))
        return (poses, parents) if self.routing.computes_activations else poses

    def get_config(self):
        return {
            **super().get_config(),
            "capsules": self.capsules,
            "pose_shape": self.pose_shape,
            "routing": keras.saving.serialize_keras_object(self.routing),
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "kernel_regularizer": regularizers.serialize(self.kernel_regularizer),
            "share_kernel": self.share_kernel,
        }

    # Methods that a subclass implements. `shape` is the shape of the children's poses.

    def poses_shape(self, shape: tuple) -> tuple:
        """Checks the shape of the children's poses and returns it as a tuple."""
        raise NotImplementedError

    def child_pose(self, shape: tuple) -> tuple:
        """Returns the shape of one child's pose, `(D,)` or `(P, Q)`."""
        return shape[4:]

    def kernel_axes(self, shape: tuple) -> tuple:
        """Returns the shape of the kernel before the axis of the parents.

        These axes index the children that have a matrix of their own.
        """
        raise NotImplementedError

    def parent_grid(self, shape: tuple) -> tuple:
        """Returns height and width of the grid of parents, `()` without a grid."""
        return ()

    def child_count(self, shape: tuple) -> int:
        """Returns the number of children of each parent."""
        raise NotImplementedError

    def routing_inputs(self, poses: Any, activations: Any, kernel: Any) -> dict:
        """Arranges the children in the form that a routing expects.

        If there is a mask, the method is called a second time, with the mask in place
        of the activations.

        Args:
            poses: poses of the children, `(batch, …, P, Q)`; P is 1 for vectors.
            activations: activations of the children, `(batch, …)`; `None` for a
                routing that does not need them.
            kernel: the kernel, `(*kernel_axes, capsules, Q, R)`.

        Returns:
            A dict of the arguments of the routing: `poses`, `kernel`, `activations`
            and, if needed, `receptive_fields`.
        """
        raise NotImplementedError

    def routing_shapes(self, shape: tuple) -> tuple[tuple, tuple]:
        """Returns the shapes of poses and kernel that `routing_inputs` returns."""
        children, pose = self.child_count(shape), self.child_pose(shape)
        rows, columns = (1, *pose)[-2:]
        kernel = (children, self.capsules, columns, self._parent_pose(pose)[-1])
        return (None, children, rows, columns), kernel

    def arguments_of_routing(self, inputs: Any, mask: Any = None) -> dict:
        """Computes the arguments of the routing from the inputs of the layer.

        Args:
            inputs: as for calling the layer. The layer must be built.
            mask: as for calling the layer.

        Returns:
            A dict of the arguments of the routing.

        Raises:
            ValueError: the inputs do not fit the layer.
        """
        poses = _poses(inputs)
        shape = self.poses_shape(tuple(poses.shape))
        pose = self.child_pose(shape)
        expected = (*self.kernel.shape[:-3], self.kernel.shape[-2])
        if (*self._axes_of_weight(shape), pose[-1]) != expected:
            raise ValueError(
                f"Poses of shape {shape} are incompatible with the layer "
                f"{self.name}, whose kernel has shape {tuple(self.kernel.shape)}."
            )
        if poses is not inputs:
            activations = _activations(inputs, shape[: -len(pose)])
        elif not self.routing.needs_activations:
            activations = None
        elif len(pose) == 1:
            activations = ops.cast(safe_norm(poses), poses.dtype)
        else:
            raise ValueError(
                "`inputs` must be `(poses, activations)`: a matrix does not say how "
                f"active its capsule is. Received: poses of shape {shape}"
            )
        kernel = ops.cast(self.kernel, self.compute_dtype)
        if self.share_kernel:
            axes = self.kernel_axes(ops.shape(poses))
            kernel = ops.broadcast_to(kernel, (*axes, *kernel.shape[-3:]))
        children = ops.shape(poses)[: -len(pose)]
        mask = mask_of(mask, poses, len(children))
        if len(pose) == 1:  # a vector is a matrix of one row
            poses = ops.expand_dims(poses, -2)
        arguments = self.routing_inputs(poses, activations, kernel)
        if mask is not None:
            mask = ops.broadcast_to(mask, children)
            masked = self.routing_inputs(poses, mask, kernel)
            arguments["mask"] = masked["activations"]
        self._check_children(arguments["kernel"].shape[0])
        return arguments

    def _check_children(self, children):
        differ = None not in (children, self._children) and children != self._children
        if differ and self.routing.learns_for_each_child:
            raise ValueError(
                f"`inputs` must have {self._children} children, for each of which the "
                f"routing of {self.name} learns, or the layer share_kernel=True. "
                f"Received: {children} children"
            )

    def _axes_of_weight(self, shape):
        axes = self.kernel_axes(shape)
        return (1,) * len(axes) if self.share_kernel else axes

    def _with_static_shapes(self, inputs):
        """Sets unknown sizes of the inputs to those that the layer was built for."""
        poses = with_static_shape(_poses(inputs), (None, *self._built_for[1:]))
        if not isinstance(inputs, (tuple, list)):
            return poses
        pose = self.child_pose(tuple(poses.shape))
        grid = (None, *poses.shape[1 : -len(pose)])
        return poses, *(with_static_shape(x, grid) for x in inputs[1:])

    def _parent_pose(self, pose):
        if self.pose_shape is None:
            return pose
        parent = self.pose_shape
        parent = (parent,) if isinstance(parent, int) else parent
        if len(parent) != len(pose) or parent[:-1] != pose[:-1]:
            raise ValueError(
                "Argument `pose_shape` must have as many axes and rows as the poses "
                f"of the children, {pose}. Received: pose_shape={self.pose_shape}"
            )
        return parent

    def _output(self, x, shape):
        return ops.cast(ops.reshape(x, (-1, *shape[1:])), self.compute_dtype)


def _shape(x):
    return tuple(x.shape)


def _bits(dtype):
    """Returns the number of bits of a float dtype, the last part of its name."""
    return int(dtype[-2:])


def _activations(inputs, expected):
    """Checks the shape of the activations of `(poses, activations)`; returns them."""
    shapes = [getattr(x, "shape", None) for x in inputs]
    given = shapes[1] if len(shapes) == 2 else None
    if given is None or not _agree(given, expected):
        raise ValueError(
            "`inputs` must be `(poses, activations)`, with activations of shape "
            f"{expected} for these poses. Received shapes: {shapes}"
        )
    return inputs[1]


def _agree(shape, other):
    """Whether two shapes are equal in all sizes that are known."""
    return len(shape) == len(other) and all(
        None in (a, b) or a == b for a, b in zip(shape, other, strict=True)
    )


def _poses(inputs):
    """Returns the poses from inputs with or without activations, or their shape."""
    if isinstance(inputs, (tuple, list)) and not isinstance(inputs[0], int | None):
        return inputs[0]
    return inputs
