from matplotlib.figure import Figure

from keras_capsules.plotting.panels import (
    charts,
    colors_of,
    columns_by_model,
    label_of,
    models_of,
)


def attack_curves(attacks: dict[str, list[dict]]) -> Figure:
    """Draws the accuracy of networks against the strength of attacks.

    The figure has a panel for each attack, with a line for each network.

    Args:
        attacks: a dict that contains, for each attack, the list that
            `robustness.accuracy_under_attack` returns.

    Returns:
        The figure.

    Raises:
        ValueError: there are no attacks, or one has no rows.

    Example:

    >>> from keras_capsules import plotting
    >>> rows = [{"model": "cnn", "epsilon": 0.0, "accuracy": 0.9},
    ...         {"model": "cnn", "epsilon": 0.1, "accuracy": 0.4}]
    >>> len(plotting.attack_curves({"FGSM": rows}).axes)
    1

    Reference:
        Hinton, Sabour and Frosst, Matrix capsules with EM routing (2018),
        figure 3.
    """
    if not attacks or not all(attacks.values()):
        raise ValueError(
            "Argument `attacks` must hold rows of at least one attack. Received: "
            f"attacks={attacks!r}"
        )
    figure, axes = charts(len(attacks))
    for axis, (attack, rows) in zip(axes, attacks.items(), strict=True):
        colors = colors_of(models_of(rows))
        for model, epsilons, accuracies in columns_by_model(
            rows, "epsilon", "accuracy"
        ):
            percent = [100.0 * accuracy for accuracy in accuracies]
            color, label = colors[model], label_of(model)
            axis.plot(epsilons, percent, "o-", ms=3, color=color, label=label)
        axis.set(xlabel="epsilon", ylabel="accuracy, %", title=attack, ylim=(-2, 102))
        axis.legend()
    return figure
