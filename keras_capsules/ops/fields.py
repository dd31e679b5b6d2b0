"""Which children of an image each parent sees."""

from functools import cached_property

import numpy as np


class ReceptiveFields:
    """The receptive fields of a layer of capsules that slides over an image.

    Args:
        size: height and width of the grid of children.
        kernel_size: height and width of a field.
        strides: steps along height and width from one field to the next.
        padding: `"valid"`, or `"same"`, where fields reach over the border and
            find padded children there.
        types: number of child types at each position.

    Attributes:
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
        places = int(np.prod(size))
        positions = np.arange(places).reshape(size)
        if padding == "same":
            borders = []
            for length, window, step in zip(size, kernel_size, strides, strict=True):
                missing = max((-(-length // step) - 1) * step + window - length, 0)
                borders.append((missing // 2, missing - missing // 2))
            positions = np.pad(positions, borders, constant_values=places)
        windows = np.lib.stride_tricks.sliding_window_view(positions, kernel_size)
        windows = windows[:: strides[0], :: strides[1]]
        self.grid = windows.shape[:2]
        self.positions = windows.reshape(-1, kernel_size[0] * kernel_size[1])
        self._types = types
        self.count = (places + 1) * types

    @classmethod
    def whole(cls, children: int) -> "ReceptiveFields":
        """The one field of parents that have no position: it holds all children."""
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
