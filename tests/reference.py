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
