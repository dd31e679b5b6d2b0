import numpy as np
from matplotlib.figure import Figure

from keras_capsules.plotting.panels import panels, show


def error_by_toy(photographs: np.ndarray, errors: dict[str, np.ndarray]) -> Figure:
    """Draws toys with the errors of networks on each of them.

    Args:
        photographs: one of each toy, floats from 0 to 1,
            `(categories, toys, height, width, channels)`.
        errors: the error on the photographs of each toy, floats from 0 to 1,
            `(categories, toys)`, by the name of the network. The errors of a toy are
            red if one of them is above 50 %.

    Returns:
        The figure.

    Raises:
        ValueError: the errors of a network are not those of the toys.

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
