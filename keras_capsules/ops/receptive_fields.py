"""Receptive fields: which children vote for which parents."""

from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from keras_capsules import validation
from keras_capsules.ops.patches import patch_positions


class ReceptiveFields:
    """Receptive fields of the parents of a convolutional capsule layer.

    Args:
        size: height and width of the grid of children.
        kernel_size: height and width of a field.
        strides: steps along height and width from one field to the next.
        padding: `"valid"`, or `"same"`, which pads the grid with zeros.
        types: number of child types at each position; `None` if it is not known.

    Attributes:
        key: the arguments as a tuple, equal for equal receptive fields.
        grid: height and width of the grid of fields.
        positions: the index of the grid position at each place of each field,
            `(fields, places)`. The index `height·width` is padding.
        children: the index of the child at each place of each field, types last,
            `(fields, places·types)`. A child has the same index in all fields.
        count: number of children, plus one padded child for each type.
        padded: whether a child is padding, `(fields, places·types)`.
        sharing: number of fields that contain the child, `(fields, places·types)`.

    Raises:
        ValueError: an argument is out of its range, or a field is larger than the grid.

    Example:

    >>> from keras_capsules.ops import ReceptiveFields
    >>> fields = ReceptiveFields((4, 4), (3, 3), (1, 1), "valid", types=1)
    >>> fields.grid, fields.children.shape
    ((2, 2), (4, 9))
    >>> [int(child) for child in fields.children[0]]
    [0, 1, 2, 4, 5, 6, 8, 9, 10]
    """

    def __init__(
        self,
        size: tuple[int, int],
        kernel_size: tuple[int, int],
        strides: tuple[int, int],
        padding: str,
        types: int | None,
    ) -> None:
        size = validation.check_positive_integers("size", tuple(size), 2)
        kernel_size = validation.check_window("kernel_size", kernel_size)
        strides = validation.check_window("strides", strides)
        validation.check_one_of("padding", padding, ("valid", "same"))
        if types is not None:
            types = validation.check_positive_integer("types", types)
        if padding == "valid":
            validation.check_receptive_field("kernel_size", kernel_size, size)
        positions = patch_positions(size, kernel_size, strides, padding)
        self.key = size, kernel_size, strides, padding, types
        self.grid = positions.shape[:2]
        self.positions = positions.reshape(-1, positions.shape[2])
        self._types = types
        self.count = types and (size[0] * size[1] + 1) * types

    @classmethod
    def whole(cls, children: int | None) -> "ReceptiveFields":
        """Returns one field that contains all children, for parents without position.

        Args:
            children: the number of children; `None` if it is not known before a graph
                runs. Then the attribute `children` cannot be used.

        Returns:
            The receptive field.
        """
        return cls((1, 1), (1, 1), (1, 1), "valid", types=children)

    @cached_property
    def children(self) -> np.ndarray:
        children = self.positions[:, :, None] * self._types + np.arange(self._types)
        return children.reshape(len(self.positions), -1)

    @cached_property
    def padded(self) -> np.ndarray:
        return self.children >= self.count - self._types

    @cached_property
    def sharing(self) -> np.ndarray:
        return np.bincount(self.children.ravel())[self.children]

    def uniform_shares(self, parents: int, competition: str) -> np.ndarray:
        """Returns the shares of a child that is divided equally among its parents.

        Args:
            parents: number of parent types at each field.
            competition: `"image"` if the parents of all fields that contain a child
                compete for it, `"patch"` if only the parents of one field do.

        Returns:
            Array `(fields, places·types)`, or one that broadcasts to it; 0 for padding.
        """
        if len(self.positions) == 1 and self._types is None:
            return np.full((1, 1), 1.0 / parents)
        sharing = self.sharing if competition == "image" else 1
        return ~self.padded / (parents * sharing)

    def share_evenly(self, amounts: Any, parents: int, competition: str) -> Any:
        """Divides each child equally among the parents that compete for it.

        Args:
            amounts: the amount of each child to divide, such as its activation,
                `(batch·fields, places·types)`.
            parents: number of parent types at each field.
            competition: as for `uniform_shares`.

        Returns:
            The amounts times `uniform_shares`, `(batch·fields, 1, places·types)`.
        """
        shares = self.uniform_shares(parents, competition)
        return self.multiply(ops.expand_dims(amounts, 1), shares[:, None])

    def multiply(self, x: Any, factors: np.ndarray) -> Any:
        """Multiplies the rows of each field by the factors of that field.

        Args:
            x: tensor `(batch·fields, …)`.
            factors: array `(fields, …)`.

        Returns:
            Tensor of the dtype of `x`, and of the shape of `x` broadcast with the
            factors.
        """
        rows = ops.reshape(x, (-1, len(factors), *ops.shape(x)[1:]))
        product = rows * ops.convert_to_tensor(factors, x.dtype)
        return ops.reshape(product, (-1, *ops.shape(product)[2:]))
