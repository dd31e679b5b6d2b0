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
# # First steps with capsules
#
# This notebook trains a capsule network on the 1,797 handwritten digits of
# scikit-learn, which takes about a minute, and shows what the network has learned. A
# capsule is a group of neurons. Its pose describes a part of the image, and the length
# of the pose says whether the part is present.

# %%
import keras

from keras_capsules import datasets, layers, losses, models, plotting

keras.utils.set_random_seed(0)
train, validation, test = datasets.digits()

# %% [markdown]
# ## A network
#
# A convolution extracts features. `PrimaryCapsule` converts them to 8 types of capsules
# whose poses are vectors of 8 numbers. Each of these capsules votes for the pose of
# each digit. Dynamic routing couples it to the digits for which its vote agrees with
# the votes of other capsules.

# %%
model = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        keras.layers.Conv2D(32, 9, activation="relu"),
        layers.PrimaryCapsule(capsules=8, pose_shape=8, kernel_size=9, strides=2),
        layers.DigitCapsule(capsules=10, pose_shape=16, routing="dynamic"),
        layers.CapsuleLength(),
    ]
)
model.compile("adam", loss=losses.MarginLoss(), metrics=["accuracy"])
model.summary()

# %%
history = model.fit(
    train.shuffle(2_000).batch(32),
    validation_data=validation.batch(60),
    epochs=4,
    verbose=2,
)
plotting.curves(history)

# %% [markdown]
# The score of a class is the length of its capsule. Scores need not sum to 1.

# %%
images, labels = next(iter(test.batch(8)))
scores = model.predict(images, verbose=0)
for label, row in zip(labels.numpy(), scores, strict=True):
    print(label, row.round(2))

# %% [markdown]
# ## What a pose describes
#
# `CapsNet` is the network of "Dynamic routing between capsules". Its decoder
# reconstructs the image from the pose of the longest capsule. The package contains a
# trained `CapsNet`:

# %%
capsnet = models.CapsNet.from_preset("capsnet_mnist_small")
plotting.reconstructions(capsnet, images, labels)

# %% [markdown]
# Each row changes one number of the pose of the first digit, from −0.25 to 0.25.

# %%
plotting.pose_tweaks(capsnet, images[0])
