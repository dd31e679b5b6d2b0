import numpy as np
from matplotlib.figure import Figure

from keras_capsules.plotting.panels import panels, show


def error_by_toy(photographs: np.ndarray, errors: dict[str, np.ndarray]) -> Figure:
    """Draws an image of each toy with the errors of networks on this toy.

    The errors of a toy are red if one of them is above 50 %.

    Args:
        photographs: an image of each toy, floats from 0 to 1,
            `(categories, toys, height, width, channels)`.
        errors: a dict with an array `(categories, toys)` for each network, by its
            name: the error on the images of each toy, from 0 to 1.

    Returns:
        The figure.

    Raises:
        ValueError: an array in `errors` has another shape.

    Example:

    >>> import numpy as np
    >>> from keras_capsules import plotting
    >>> toys = np.zeros((5, 2, 48, 48, 1))
    >>> len(plotting.error_by_toy(toys, {"cnn": np.full((5, 2), 0.1)}).axes)
    10
    """
    shape = photographs.shape[:2]
    for name, shares in errors.items():
        if np.shape(shares) != shape:
            raise ValueError(
                f"Argument `errors` must hold arrays of the toys' shape {shape}. "
                f"Received: shape {np.shape(shares)} for {name!r}"
            )
    figure, axes = panels(*shape, f"Error in % of {', '.join(errors)}")
    for toy in np.ndindex(shape):
        shares = [float(100.0 * of_network[toy]) for of_network in errors.values()]
        show(axes[toy], photographs[toy])
        axes[toy].set_title(
            ", ".join(f"{share:.0f}" for share in shares),
            fontsize=7,
            color="red" if max(shares, default=0.0) > 50.0 else "black",
        )
    return figure
