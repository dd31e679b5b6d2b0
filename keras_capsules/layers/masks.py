"""Keras masks, which distinguish children from padding."""

from typing import Any

from keras import ops


def mask_of(mask: Any, x: Any, axes: int) -> Any:
    """Converts a mask to numbers and appends axes of size 1.

    Args:
        mask: booleans `(batch, …)`, True for each child and False for padding; `None`
            for no mask. Of a pair of tensors, the masks of poses and activations, the
            first that is not `None` is used.
        x: tensor whose first axes are those of the mask.
        axes: number of axes of the result.

    Returns:
        A tensor of the dtype of `x`, 1 for each child and 0 for padding; `None` without
        a mask.

    Raises:
        ValueError: the shape of the mask does not fit that of `x`.

    Example:

    >>> import keras
    >>> mask = keras.ops.convert_to_tensor([[True, True, False]])
    >>> tuple(mask_of(mask, keras.ops.ones((1, 3, 4, 4)), axes=4).shape)
    (1, 3, 1, 1)
    """
    if isinstance(mask, (tuple, list)) and any(
        x is None or hasattr(x, "shape") for x in mask
    ):
        mask = next((x for x in mask if x is not None), None)
    if mask is None:
        return None
    mask = ops.cast(ops.convert_to_tensor(mask), x.dtype)
    pairs = zip(mask.shape, x.shape, strict=False)
    if len(mask.shape) > axes or any(a != b for a, b in pairs if None not in (a, b)):
        raise ValueError(
            f"Argument `mask` must have at most {axes} axes, the first axes of "
            f"its input, {tuple(x.shape)}. Received: mask of shape "
            f"{tuple(mask.shape)}"
        )
    ones = (1,) * (axes - len(mask.shape))
    return ops.reshape(mask, (-1, *ops.shape(mask)[1:], *ones))
