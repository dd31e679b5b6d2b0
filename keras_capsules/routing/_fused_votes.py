"""The votes of a block of images on a GPU, without storing them in memory."""

from typing import Any

from keras import ops

from keras_capsules.routing._block_votes import BlockVotes


class FusedVotes(BlockVotes):
    """`BlockVotes` whose votes are recomputed by each GPU kernel that sums over them.

    The methods and their results are the same.

    Args:
        kernels: module with the GPU kernels, see `_backend.fused_sums`.
        *arguments: the arguments of `BlockVotes`.
    """

    def __init__(self, kernels: Any, *arguments: Any) -> None:
        self._kernels = kernels
        super().__init__(*arguments)

    def moments(self, weights: Any) -> tuple:
        return (
            ops.sum(weights, axis=-1, keepdims=True),
            *self._sums(weights, 2 if self._center else 1),
        )

    def scores(self, coefficients: tuple) -> Any:
        constant, *others = coefficients
        several = len(constant.shape) == 4
        if not several:
            others = [ops.expand_dims(c, 2) for c in others]
        others = tuple(self._as_matrices(c) for c in others)
        found = self._kernels.scores(*self._arguments(), others)
        return constant + (found if several else found[:, :, 0])

    def gradient(self, weights: tuple, moments: tuple) -> tuple[Any, Any]:
        moments = tuple(self._as_matrices(x) for x in moments)
        found = self._kernels.gradient(*self._arguments(), weights, moments)
        pairs = zip(found, (self._poses, self._matrices), strict=True)
        return tuple(ops.cast(gradient, x.dtype) for gradient, x in pairs)

    def _make(self):
        self._center = ()

    def _square(self):
        self._center = (self._as_matrices(self.center),)

    def _sum(self, weights, power):
        return self._sums(weights, power + 1)[power]

    def _sums(self, weights, powers):
        found = self._kernels.moments(*self._arguments(), weights, powers)
        found = ops.reshape(found, (*found.shape[:3], -1))
        return [found[:, power] for power in range(powers)]

    def _arguments(self):
        return self._poses, self._matrices, self._center

    def _as_matrices(self, x):
        """Reshapes (…, P·R) to (…, P, R)."""
        return ops.reshape(x, (*x.shape[:-1], *self._shape[2:]))
