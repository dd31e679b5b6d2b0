"""Common implementations of routing in plain TensorFlow, as references."""

import math

import keras
import tensorflow as tf

from keras_capsules.routing import EMRouting, Routing


@keras.saving.register_keras_serializable(package="benchmarks")
class TiledRouting(Routing):
    """A routing that calls `tiled_dynamic_routing`.

    Args:
        iterations: number of routing iterations.
        **kwargs: as for `Routing`.
    """

    def __init__(self, iterations=3, **kwargs):
        super().__init__(**kwargs)
        self.iterations = iterations

    def call(
        self, poses, kernel, activations=None, receptive_fields=None, training=None
    ):
        parents = tiled_dynamic_routing(poses[:, :, 0], kernel, self.iterations)
        return parents[:, :, None]

    def compute_output_shape(
        self,
        poses_shape,
        kernel_shape,
        activations_shape=None,
        receptive_fields_shape=None,
    ):
        return (poses_shape[0], kernel_shape[1], 1, kernel_shape[3])

    def get_config(self):
        return {**super().get_config(), "iterations": self.iterations}


@keras.saving.register_keras_serializable(package="benchmarks")
class TextbookEMRouting(EMRouting):
    """A routing that calls `textbook_em_routing`, with the weights of `EMRouting`."""

    def call(
        self, poses, kernel, activations=None, receptive_fields=None, training=None
    ):
        return textbook_em_routing(
            poses,
            kernel,
            activations,
            self.beta_u,
            self.beta_a,
            self.iterations,
            self.min_variance,
            mean=self.agreement == "mean",
        )


def tiled_dynamic_routing(poses, kernel, iterations):
    """Computes dynamic routing with tiled tensors.

    The matrices are tiled over the batch, and the poses over the parents.

    Args:
        poses: vector poses of the children, `(batch, children, D)`.
        kernel: transformation matrices, `(children, parents, D, R)`.
        iterations: number of routing iterations.

    Returns:
        The poses of the parents, `(batch, parents, R)`.

    Reference:
        Géron, Dynamic routing between capsules in TensorFlow (a notebook, 2017).
    """
    batch, (children, parents, _, _) = tf.shape(poses)[0], kernel.shape
    w = tf.transpose(kernel, (0, 1, 3, 2))
    w = tf.tile(w[None], (batch, 1, 1, 1, 1))  # (batch, children, parents, R, D)
    u = tf.tile(poses[:, :, None, :, None], (1, 1, parents, 1, 1))
    votes = tf.matmul(w, u)  # (batch, children, parents, R, 1)
    logits = tf.zeros((batch, children, parents, 1, 1))
    for t in range(iterations):
        couplings = tf.nn.softmax(logits, axis=2)
        s = tf.reduce_sum(couplings * votes, axis=1, keepdims=True)
        squared = tf.reduce_sum(tf.square(s), axis=-2, keepdims=True)
        v = squared / (1.0 + squared) * s / tf.sqrt(squared + 1e-7)
        if t + 1 < iterations:
            tiled = tf.tile(v, (1, children, 1, 1, 1))
            logits += tf.matmul(votes, tiled, transpose_a=True)
    return v[:, 0, :, :, 0]


def textbook_em_routing(
    poses, kernel, activations, beta_u, beta_a, iterations, min_variance, mean
):
    """Computes EM routing directly by the formulas, separately in each patch.

    The mass of a parent and λ are defined as in `EMRouting`, so that networks train
    alike.

    Args:
        poses: poses of the children, `(batch, children, 4, Q)`.
        kernel: transformation matrices, `(children, parents, Q, 4)`.
        activations: activations of the children, `(batch, children)`.
        beta_u: β_u of the paper for each parent, `(parents,)`.
        beta_a: β_a of the paper for each parent, `(parents,)`.
        iterations: number of routing iterations.
        min_variance: constant that is added to every variance.
        mean: whether the agreement is the geometric mean of the densities of the vote
            components, instead of their product.

    Returns:
        Poses `(batch, parents, 4, 4)` and activations `(batch, parents)` of the
        parents.

    Reference:
        Hui, Understanding matrix capsules with EM routing (an article, 2017).
    """
    batch, (children, parents, _, _) = tf.shape(poses)[0], kernel.shape
    w = tf.tile(kernel[None], (batch, 1, 1, 1, 1))
    x = tf.tile(poses[:, :, None], (1, 1, parents, 1, 1))
    votes = tf.reshape(tf.matmul(x, w), (-1, children, parents, 16))
    a_i = activations[:, :, None, None]
    r = tf.fill((batch, children, parents, 1), 1.0 / parents)
    inverse_temperature = min(7.0, 1.0 / (1.0 - 0.95**iterations))
    for t in range(iterations):
        weights = r * a_i  # (batch, children, parents, 1)
        mass = tf.reduce_sum(weights, axis=1, keepdims=True) + 1e-7
        mu = tf.reduce_sum(weights * votes, axis=1, keepdims=True) / mass
        deviations = tf.square(votes - mu)
        variance = tf.reduce_sum(weights * deviations, axis=1, keepdims=True) / mass
        sigma = tf.sqrt(variance + min_variance)
        cost = (beta_u[:, None] + tf.math.log(sigma)) * mass
        cost = tf.reduce_sum(cost, axis=-1, keepdims=True) / (0.5 * children / parents)
        steepness = inverse_temperature * (1.0 - 0.95 ** (t + 1))
        a_j = tf.sigmoid(steepness * (beta_a[:, None] - cost))
        if t + 1 < iterations:
            exponent = tf.square(votes - mu) / (2.0 * tf.square(sigma))
            density = -tf.reduce_sum(exponent, axis=-1, keepdims=True)
            density -= tf.reduce_sum(tf.math.log(sigma), axis=-1, keepdims=True)
            density -= 8.0 * math.log(2.0 * math.pi)
            density = density / 16.0 if mean else density
            r = tf.nn.softmax(density + tf.math.log(a_j + 1e-7), axis=2)
    return tf.reshape(mu, (-1, parents, 4, 4)), a_j[:, 0, :, 0]
