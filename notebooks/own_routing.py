# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A routing of your own
#
# A routing algorithm computes how strongly each child capsule is coupled to each parent
# capsule, and the poses of the parents. This notebook implements a new one and compares
# it with two routings of the package. Each parent learns a factor τ of its agreement
# with the votes, an inverse temperature of the softmax:
#
# ```
# v_j  = squash(Σ_i c_ij V_ij)
# c_ij = softmax_j(τ_j · V_ij · v_j)
# ```

# %%
import keras
from keras import ops

from keras_capsules import datasets, layers, losses, routing, testing
from keras_capsules.ops import squash


@keras.saving.register_keras_serializable(package="notebook")
class TemperedRouting(routing.MomentRouting):
    def build(self, poses_shape, kernel_shape):
        # (parents, 1)
        self.temperature = self.add_weight(
            name="temperature", shape=(kernel_shape[1], 1), initializer="ones"
        )

    # v_j = squash(Σ_i c_ij V_ij)
    def update_parents(self, moments, iteration, inputs):
        return {"parents": squash(moments.sum)}  # (batch, parents, D)

    # τ_j · V_ij · v_j
    def score_coefficients(self, parents):
        return routing.Polynomial(linear=self.temperature * parents["parents"])

    # c_ij = softmax_j(…)
    def update_weights(self, scores, inputs):
        return ops.softmax(scores, axis=1)  # (batch, parents, children)


# %% [markdown]
# `check_routing` tests the routing: the gradients of poses, kernel and temperature,
# saving and loading, half precision, masked children and more. It raises an error if a
# test fails.

# %%
testing.check_routing(TemperedRouting(iterations=3))

# %% [markdown]
# Now the same network is trained with three routings.

# %%
train, validation, _ = datasets.digits()


def accuracy_with(route):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            keras.layers.Conv2D(32, 5, strides=2, activation="relu"),
            layers.PrimaryCapsule(8, pose_shape=8, kernel_size=3, strides=2),
            layers.DigitCapsule(10, pose_shape=16, routing=route),
            layers.CapsuleLength(),
        ]
    )
    model.compile(
        keras.optimizers.Adam(0.003), losses.MarginLoss(), metrics=["accuracy"]
    )
    model.fit(train.shuffle(2_000).batch(32), epochs=3, verbose=0)
    return model.evaluate(validation.batch(60), verbose=0)[1]


for route in ("uniform", "dynamic", TemperedRouting(iterations=3)):
    print(route if isinstance(route, str) else "tempered", accuracy_with(route))
