"""Keras masks, which say which children there are."""

from typing import Any

from keras import ops


def mask_of(mask: Any, x: Any, axes: int) -> Any:
    """A mask as numbers, with axes of size 1 at its end.

    Args:
        mask: booleans `(batch, …)`, True where there is something; of a pair of masks,
            those of poses and activations, the first that there is. `None` for none.
        x: tensor whose first axes the mask has.
        axes: how many axes the result has.

    Returns:
        A tensor of the dtype of `x`, 1 where there is something and 0 elsewhere; or
        `None`.

    Raises:
        ValueError: the mask has other axes.

    Example:

    >>> import keras
    >>> mask = keras.ops.convert_to_tensor([[True, True, False]])
    >>> tuple(mask_of(mask, keras.ops.ones((1, 3, 4, 4)), axes=4).shape)
    (1, 3, 1, 1)
    """
    if isinstance(mask, (tuple, list)):
        mask = next((x for x in mask if x is not None), None)
    if mask is None:
        return None
    mask = ops.cast(mask, x.dtype)
    pairs = zip(mask.shape, x.shape, strict=False)
    if len(mask.shape) > axes or any(a != b for a, b in pairs if None not in (a, b)):
        raise ValueError(
            f"Argument `mask` must have at most {axes} axes, the first of its input's, "
            f"{tuple(x.shape)}. Received: mask of shape {tuple(mask.shape)}"
        )
    ones = (1,) * (axes - len(mask.shape))
    return ops.reshape(mask, (-1, *ops.shape(mask)[1:], *ones))
