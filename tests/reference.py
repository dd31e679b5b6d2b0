"""The formulas of the papers, in float64 and as plainly as NumPy allows."""

import numpy as np
from scipy.special import digamma


def flat_votes(poses, kernel):
    """Votes (batch, children, parents, P·R), of poses (batch, children, P, Q)."""
    votes = np.einsum("nipq,ijqr->nijpr", poses, kernel)
    return votes.reshape(*votes.shape[:3], poses.shape[2] * kernel.shape[3])


def squash(x):
    squared = np.sum(x**2, -1, keepdims=True)
    return squared / (1 + squared) * x / np.sqrt(squared + 1e-7)


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def sigmoid(x):
    return 0.5 + 0.5 * np.tanh(0.5 * x)


def dynamic_routing(poses, kernel, iterations, bias=0.0):
    """Parents (batch, parents, R) and the couplings of the last iteration.

    Takes vector poses (batch, children, D), a kernel (children, parents, D, R) and a
    bias (parents, R).
    """
    votes = np.einsum("nid,ijdr->nijr", poses, kernel)
    logits = np.zeros(votes.shape[:3])
    for _ in range(iterations):
        couplings = softmax(logits, axis=2)
        parents = squash(np.einsum("nij,nijr->njr", couplings, votes) + bias)
        logits = logits + np.einsum("nijr,njr->nij", votes, parents)
    return parents, couplings


def compete(scores, same):
    """Softmax over all parents (rows, children, parents) that see the same child.

    `same` (rows·children, rows·children) says which places hold the same child.
    """
    best = np.where(same, scores.max(-1).ravel(), -np.inf)
    highest = best.max(1, initial=-np.inf).reshape(*scores.shape[:2], 1)
    shares = np.exp(scores - highest)
    total = same @ shares.sum(-1).ravel()
    return shares / total.reshape(*scores.shape[:2], 1)


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
    padded=False,
    normalization=None,
):
    """Parent poses (rows, J, P, R), activations (rows, J), assignments (rows, I, J).

    `child` (rows, I) says which child of which image stands at each place; every
    parent that sees a child competes for it. By default each place has its own.
    `padded` (rows, I) says where there is none, which nobody expects to be active.
    `normalization` is what is taken from a cost and what multiplies the rest: parents
    then compete by their masses, not by their activations.
    """
    rows, children, p, _ = poses.shape
    _, parents, _, r = kernel.shape
    votes = flat_votes(poses, kernel)
    child = (
        np.arange(rows * children).reshape(rows, children) if child is None else child
    )
    same = child.reshape(-1, 1) == child.reshape(1, -1)  # places of the same child
    scores = np.zeros((rows, children, parents))
    for t in range(iterations):
        assignments = compete(scores, same)
        weights = assignments * activations[:, :, None]
        if t == 0:  # every child chooses at random
            expected = np.where(np.expand_dims(padded, -1), 0.0, assignments).sum(1)
            expected = 0.5 * expected
            unit = expected if relative_mass else np.ones((1, 1))
        given = weights.sum(1) + (1e-3 * expected if relative_mass else 1e-7)
        mass = np.maximum(given, 1e-3 * expected)
        mean = np.einsum("nij,nijh->njh", weights, votes) / mass[..., None]
        squares = (votes - mean[:, None]) ** 2
        variance = np.einsum("nij,nijh->njh", weights, squares) / mass[..., None]
        variance += min_variance + ((mass - given) / mass)[..., None]
        cost = np.sum(beta_u[:, None] + 0.5 * np.log(variance), -1) * mass / unit
        if normalization is None:
            temperature = inverse_temperature * (1 - 0.95 ** (t + 1))
            logits = temperature * (beta_a - cost)
            priors = -np.logaddexp(0.0, -logits)
        else:
            center, scale = normalization
            logits = beta_a - scale * (cost - center)
            priors = np.log(mass / unit + 0.1)
        density = -0.5 * (squares / variance[:, None] + np.log(variance)[:, None])
        density = density.sum(-1) if agreement == "product" else density.mean(-1)
        scores = density + priors[:, None]
    return mean.reshape(rows, parents, p, r), sigmoid(logits), assignments


def self_attention_routing(poses, kernel, prior):
    """Parents (batch, parents, P·R) and the weights of the children.

    Takes poses (batch, children, P, Q) and a prior (children, parents).
    """
    votes = flat_votes(poses, kernel)
    attention = np.einsum("nijh,nkjh->nij", votes, votes) / np.sqrt(votes.shape[-1])
    weights = softmax(attention, axis=2) + prior
    total = np.einsum("nij,nijh->njh", weights, votes)
    length = np.sqrt(np.sum(total**2, -1, keepdims=True) + 1e-7)
    return -np.expm1(-length) * total / length, weights


def inverted_attention_routing(poses, kernel, gain, bias, iterations, epsilon=1e-5):
    """Parents (batch, parents, P·R) and the shares of the last iteration."""
    votes = flat_votes(poses, kernel)
    shares = np.full(votes.shape[:3], 1 / votes.shape[2])
    for t in range(iterations):
        total = np.einsum("nij,nijh->njh", shares, votes)
        deviation = np.sqrt(total.var(-1, keepdims=True) + epsilon)
        parents = gain * (total - total.mean(-1, keepdims=True)) / deviation + bias
        if t + 1 < iterations:
            agreement = np.einsum("nijh,njh->nij", votes, parents)
            shares = softmax(agreement / np.sqrt(votes.shape[-1]), axis=2)
    return parents, shares


def variational_bayes_routing(
    poses, kernel, activations, iterations, prior_weight=1.0, child=None
):
    """Means (rows, J, P·R), logits (rows, J), responsibilities (rows, I, J).

    What is batch normalized afterwards, without the β_a − β_u that is added to logits.
    `child` is as for `em_routing`.
    """
    votes = flat_votes(poses, kernel)
    rows, children, parents, size = votes.shape
    if child is None:
        child = np.arange(rows * children).reshape(rows, children)
    same = child.reshape(-1, 1) == child.reshape(1, -1)  # places of the same child
    alpha_0 = kappa_0 = prior_weight
    nu_0, psi_0 = size + 1, 1.0
    log_density = np.zeros((rows, children, parents))
    for _ in range(iterations):
        responsibilities = compete(log_density, same)
        r = responsibilities * activations[:, :, None]
        n = r.sum(1)[..., None]
        alpha, kappa, nu = alpha_0 + n, kappa_0 + n, nu_0 + n
        mu = np.einsum("nij,nijh->njh", r, votes) / np.maximum(n, 1e-300)
        m = n * mu / kappa
        b = psi_0 + np.einsum("nij,nijh->njh", r, (votes - mu[:, None]) ** 2)
        b = b + kappa_0 * n * mu**2 / kappa
        log_pi = (digamma(alpha) - digamma(alpha.sum(1, keepdims=True)))[..., 0]
        log_lambda = sum(digamma((nu[..., 0] - d) / 2) for d in range(size))
        log_lambda = log_lambda + size * np.log(2) - np.log(b).sum(-1)
        away = (nu / b)[:, None] * (votes - m[:, None]) ** 2
        log_density = -0.5 * (size / kappa[:, None, :, 0] + away.sum(-1))
        of_parents = log_pi + 0.5 * log_lambda - 0.5 * size * np.log(2 * np.pi)
        log_density = log_density + of_parents[:, None]
    entropy = 0.5 * size * np.log(2 * np.pi * np.e) - 0.5 * log_lambda
    return m, -np.exp(log_pi) * entropy, responsibilities


def uniform_routing(poses, kernel):
    """Parents (batch, parents, P·R)."""
    votes = flat_votes(poses, kernel)
    return squash(votes.sum(1) / votes.shape[2])


def self_routing(poses, kernel, activations, weight, bias):
    """Parents before normalization (batch, J, P·R), activations and couplings.

    Takes classifiers `weight` (children, parents, P·Q) and `bias` (children, parents).
    """
    votes = flat_votes(poses, kernel)
    flat = poses.reshape(*poses.shape[:2], poses.shape[2] * poses.shape[3])
    couplings = softmax(np.einsum("nih,ijh->nij", flat, weight) + bias, axis=2)
    shares = couplings * activations[:, :, None]
    mass, least = shares.sum(1), 1e-3 * votes.shape[1] / votes.shape[2]
    parents = np.einsum("nij,nijh->njh", shares, votes)
    parents = parents / np.maximum(mass, least)[..., None]
    total = np.maximum(activations.sum(1, keepdims=True), least * votes.shape[2])
    return parents, mass / total, couplings


def generative_routing(
    poses, kernel, activations, vote_bias, use, ignore, iterations, min_variance
):
    """Parents (batch, parents, P·R), activations (batch, parents) and R of the last.

    Takes vote biases (children, parents, P, R), benefits and costs
    (children, parents).
    """
    votes = np.einsum("nipq,ijqr->nijpr", poses, kernel) + vote_bias
    votes = votes.reshape(*votes.shape[:3], votes.shape[3] * votes.shape[4])
    evidence = np.zeros(votes.shape[:3])
    for _ in range(iterations):
        share = softmax(evidence, axis=2)
        used = activations[:, :, None] * share
        ignored = activations[:, :, None] * (1 - share)
        logits = (use * used - ignore * ignored).sum(1)
        least = 1e-3 * votes.shape[1] / votes.shape[2]
        part = (used / np.maximum(used.sum(1, keepdims=True), least))[..., None]
        mean = (part * votes).sum(1)
        variance = (part * (votes - mean[:, None]) ** 2).sum(1) + min_variance
        density = -0.5 * (votes - mean[:, None]) ** 2 / variance[:, None]
        density = density - 0.5 * np.log(2 * np.pi * variance[:, None])
        evidence = density.sum(-1) - np.logaddexp(0.0, -logits)[:, None]
    return mean, sigmoid(logits), share
