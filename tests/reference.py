"""The formulas of the papers, in float64 and as plainly as NumPy allows."""

import numpy as np


def squash(x):
    squared = np.sum(x**2, -1, keepdims=True)
    return squared / (1 + squared) * x / np.sqrt(squared + 1e-7)


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def dynamic_routing(poses, kernel, iterations):
    """Parents (batch, parents, R) and the couplings of the last iteration.

    Takes vector poses (batch, children, D) and a kernel (children, parents, D, R).
    """
    votes = np.einsum("nid,ijdr->nijr", poses, kernel)
    logits = np.zeros(votes.shape[:3])
    for _ in range(iterations):
        couplings = softmax(logits, axis=2)
        parents = squash(np.einsum("nij,nijr->njr", couplings, votes))
        logits = logits + np.einsum("nijr,njr->nij", votes, parents)
    return parents, couplings


def em_routing(
    poses,
    kernel,
    activations,
    beta_u,
    beta_a,
    iterations,
    inverse_temperature,
    min_variance,
    agreement="product",
    child=None,
    relative_mass=False,
):
    """Parent poses (rows, J, P, R), activations (rows, J), assignments (rows, I, J).

    `child` (rows, I) says which child of which image stands at each place; every
    parent that sees a child competes for it. By default each place has its own.
    """
    rows, children, p, _ = poses.shape
    _, parents, _, r = kernel.shape
    votes = np.einsum("nipq,ijqr->nijpr", poses, kernel)
    votes = votes.reshape(rows, children, parents, p * r)
    child = (
        np.arange(rows * children).reshape(rows, children) if child is None else child
    )
    same = child.reshape(-1, 1) == child.reshape(1, -1)  # places of the same child
    scores = np.zeros((rows, children, parents))
    for t in range(iterations):
        highest = scores.max()
        total = same @ np.exp(scores - highest).sum(-1).ravel()
        assignments = np.exp(scores - highest) / total.reshape(rows, children, 1)
        weights = assignments * activations[:, :, None]
        if t == 0:  # every child chooses at random
            unit = 0.5 * assignments.sum(1) if relative_mass else np.ones((1, 1))
        mass = weights.sum(1) + (1e-3 * unit if relative_mass else 1e-7)
        mean = np.einsum("nij,nijh->njh", weights, votes) / mass[..., None]
        squares = (votes - mean[:, None]) ** 2
        variance = np.einsum("nij,nijh->njh", weights, squares) / mass[..., None]
        variance += min_variance
        cost = np.sum(beta_u[:, None] + 0.5 * np.log(variance), -1) * mass / unit
        temperature = inverse_temperature * (1 - 0.95 ** (t + 1))
        a = 1 / (1 + np.exp(-temperature * (beta_a - cost)))
        density = -0.5 * (squares / variance[:, None] + np.log(variance)[:, None])
        density = density.sum(-1) if agreement == "product" else density.mean(-1)
        scores = np.log(a)[:, None] + density
    return mean.reshape(rows, parents, p, r), a, assignments
