"""Which children of an image each parent sees."""

from functools import cached_property
from typing import Any

import numpy as np
from keras import ops

from keras_capsules.ops.patches import patch_positions


class ReceptiveFields:
    """Receptive fields of the parents of a convolutional capsule layer.

    Args:
        size: height and width of the grid of children.
        kernel_size: height and width of a field.
        strides: steps along height and width from one field to the next.
        padding: `"valid"`, or `"same"`, where fields reach over the border and
            find padded children there.
        types: number of child types at each position.

    Attributes:
        key: the arguments, to tell fields from others.
        grid: height and width of the grid of fields.
        positions: the position each field finds at each of its places,
            `(fields, places)`; `height·width` stands for the padding.
        children: the same for the children, types last,
            `(fields, places·types)`. One child has one number in all fields.
        count: number of children, plus one for each padded type.
        padded: whether a child is padding, `(fields, places·types)`.
        sharing: how many fields contain the child, `(fields, places·types)`.

    Example:

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
        types: int,
    ) -> None:
        positions = patch_positions(tuple(size), kernel_size, strides, padding)
        windows = map(tuple, (size, kernel_size, strides))
        self.key = *windows, padding, types
        self.grid = positions.shape[:2]
        self.positions = positions.reshape(-1, positions.shape[2])
        self._types = types
        self.count = types and (size[0] * size[1] + 1) * types

    @classmethod
    def whole(cls, children: int | None) -> "ReceptiveFields":
        """The one field of parents that have no position: it holds all children.

        Args:
            children: how many; `None` where their number is not known before a graph
                runs. Then there is no array of them.

        Returns:
            The field.
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
        """What each parent gets of a child that prefers none.

        Args:
            parents: number of parent types at each field.
            competition: `"image"` where the parents of all fields that contain a child
                compete for it, `"patch"` where those of one field do.

        Returns:
            `(fields, places·types)`, or something that broadcasts to it; 0 for
            padding.
        """
        if len(self.positions) == 1 and self._types is None:
            return np.full((1, 1), 1.0 / parents)
        sharing = self.sharing if competition == "image" else 1
        return ~self.padded / (parents * sharing)

    def share_evenly(self, amounts: Any, parents: int, competition: str) -> Any:
        """Gives each child to all parents that compete for it alike.

        Args:
            amounts: how much there is of each child, `(batch·fields, places·types)`.
            parents: number of parent types at each field.
            competition: as for `uniform_shares`.

        Returns:
            `(batch·fields, 1, places·types)`, what each parent gets: the amounts times
            `uniform_shares`.
        """
        shares = self.uniform_shares(parents, competition)
        return self.multiply(ops.expand_dims(amounts, 1), shares[:, None])

    def multiply(self, x: Any, factors: np.ndarray) -> Any:
        """Multiplies the rows of each field by the factors of that field.

        Args:
            x: tensor `(batch·fields, …)`.
            factors: array `(fields, …)`.

        Returns:
            Tensor of the shape and dtype of `x`, or what the factors broadcast it to.
        """
        rows = ops.reshape(x, (-1, len(factors), *ops.shape(x)[1:]))
        product = rows * ops.convert_to_tensor(factors, x.dtype)
        return ops.reshape(product, (-1, *ops.shape(product)[2:]))
