from typing import Any

import keras
from keras import initializers, ops, regularizers

from keras_capsules import routing as routings
from keras_capsules import validation
from keras_capsules._backend import with_static_shape
from keras_capsules.layers.masks import mask_of
from keras_capsules.ops import safe_norm


@keras.saving.register_keras_serializable(package="keras_capsules")
class CapsuleLayer(keras.layers.Layer):
    """Base class of capsule layers, whose parents are computed by a routing.

    A subclass knows the geometry: which children a parent sees and which of them
    share a matrix. It brings them into the one form that a routing takes: rows of
    children, and the matrices that make their votes.

    Args:
        capsules: number of parent types.
        pose_shape: pose of a parent: an integer for a vector, `(P, R)` for a
            matrix, with the rows P of the children's poses; `None` for the pose
            of the children.
        routing: a name, an instance or a config, as `keras_capsules.routing.get`
            takes it.
        kernel_initializer: initializer of the kernel. By default a normal
            distribution of the width that the routing asks for, see
            `routing.Routing.kernel_stddev`. (Keras's initializers that scale with
            fan-in take the kernel for a convolution's.)
        kernel_regularizer: regularizer of the kernel.
        share_kernel: whether all children share the matrix for a parent. What the
            routing learns by child is then shared, too.
        **kwargs: `name`, `dtype` and the other arguments of
            `keras.layers.Layer`.

    Call arguments:
        inputs: `(poses, activations)` of the children. Vector poses may come
            alone: they are as active as they are long.
        mask: True for each child, False for padding, which counts for nothing:
            `(batch, …)` or fewer of these axes, as Keras passes it on from an
            `Embedding` or a `Masking` layer.

    Input shape:
        Poses `(batch, …, D)` or `(batch, …, P, Q)`, activations `(batch, …)`;
        the subclass says which axes lie between. The kernel has shape
        `(…, capsules, Q, R)`, with Q = D for vectors; where it is shared, the axes
        before `capsules` have size 1.

    Output shape:
        Poses `(batch, …, capsules, R)` or `(batch, …, capsules, P, R)` and, if
        the routing computes them, activations `(batch, …, capsules)`, in the
        layer's compute dtype.

    Raises:
        ValueError: an argument is out of its range, the poses or the activations
            do not fit, or the routing already learns for another layer.

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
        if not self.trainable:
            self.routing.trainable = False
        if self.variable_dtype == "float64" and not self.routing.built:
            # What it learns is as precise as the kernel.
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
        """None: every image has all parents."""

    def trace(self, inputs: Any, mask: Any = None) -> dict:
        """Returns what each iteration of the routing computes.

        Args:
            inputs: as for calling the layer.
            mask: as for calling the layer.

        Returns:
            The trace of the routing, see `routing.Routing.trace`. Where parents have
            positions, each is a row of its own: `image · positions + position`.
        """
        if not self.built:
            self.build(keras.tree.map_structure(_shape, inputs))
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

    # What a subclass writes.

    def poses_shape(self, shape: tuple) -> tuple:
        """Returns the shape of the children's poses if the layer can take it."""
        raise NotImplementedError

    def child_pose(self, shape: tuple) -> tuple:
        """The pose of one child, `(D,)` or `(P, Q)`, in poses of this shape."""
        return shape[4:]

    def kernel_axes(self, shape: tuple) -> tuple:
        """The axes of the kernel before the parents, for poses of this shape.

        They are those of the children that have a matrix of their own.
        """
        raise NotImplementedError

    def parent_grid(self, shape: tuple) -> tuple:
        """Height and width of the grid of parents, `()` if they have none."""
        return ()

    def child_count(self, shape: tuple) -> int:
        """How many children a parent sees, for poses of this shape."""
        raise NotImplementedError

    def routing_inputs(self, poses: Any, activations: Any, kernel: Any) -> dict:
        """Brings children into the form that a routing takes.

        With a mask it is called once more, with the mask as activations.

        Args:
            poses: poses of the children, `(…, P, Q)`.
            activations: activations of the children, `(…)`; `None` for a routing that
                does not need them.
            kernel: the kernel, with all its `kernel_axes`.

        Returns:
            The arguments of the routing, `activations` among them.
        """
        raise NotImplementedError

    def routing_shapes(self, shape: tuple) -> tuple[tuple, tuple]:
        """The shapes of the poses and of the kernel that `routing_inputs` returns."""
        children, pose = self.child_count(shape), self.child_pose(shape)
        rows, columns = (1, *pose)[-2:]
        kernel = (children, self.capsules, columns, self._parent_pose(pose)[-1])
        return (None, children, rows, columns), kernel

    def arguments_of_routing(self, inputs: Any, mask: Any = None) -> dict:
        """What the routing is called with, for the inputs of the layer.

        Args:
            inputs: as for calling the layer, which has to be built.
            mask: as for calling the layer.

        Returns:
            Its arguments, by name.

        Raises:
            ValueError: the inputs do not fit.
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
        kernel = ops.convert_to_tensor(self.kernel)
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
        return arguments

    def _axes_of_weight(self, shape):
        axes = self.kernel_axes(shape)
        return (1,) * len(axes) if self.share_kernel else axes

    def _with_static_shapes(self, inputs):
        """The inputs, of the shape that was built for where none is known yet."""
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


def _activations(inputs, expected):
    """The second of a pair of tensors, if it has the shape that is expected."""
    shapes = [getattr(x, "shape", None) for x in inputs]
    given = shapes[1] if len(shapes) == 2 else None
    if given is None or not _agree(given, expected):
        raise ValueError(
            "`inputs` must be `(poses, activations)`, with activations of shape "
            f"{expected} for these poses. Received shapes: {shapes}"
        )
    return inputs[1]


def _agree(shape, other):
    """Whether two shapes are the same as far as they are known."""
    return len(shape) == len(other) and all(
        None in (a, b) or a == b for a, b in zip(shape, other, strict=True)
    )


def _poses(inputs):
    """The first of a pair of tensors or of shapes, or the only one there is."""
    if isinstance(inputs, (tuple, list)) and not isinstance(inputs[0], int | None):
        return inputs[0]
    return inputs
