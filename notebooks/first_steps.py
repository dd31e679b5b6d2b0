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
# This notebook trains a capsule network on 1,797 handwritten digits that come with
# scikit-learn, which takes about a minute, and looks at what it has learned. A capsule
# is a group of neurons: its pose describes a part of the image, and the length of the
# pose says whether the part is there.

# %%
import keras

from keras_capsules import datasets, layers, losses, models, plotting

keras.utils.set_random_seed(0)
train, validation, test = datasets.digits()

# %% [markdown]
# ## A network
#
# A convolution extracts features. `PrimaryCapsule` makes 8 types of capsules of them,
# with poses of 8 numbers. Each of them votes for the pose of each digit, and dynamic
# routing couples it to the digits whose other votes agree.

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
# `CapsNet` is the network of the first paper. Its decoder draws the image from the pose
# of the longest capsule. A trained one comes with the package:

# %%
capsnet = models.CapsNet.from_preset("capsnet_mnist_small")
plotting.reconstructions(capsnet, images, labels)

# %% [markdown]
# Each row changes one number of the pose of the first digit, from −0.25 to 0.25.

# %%
plotting.pose_tweaks(capsnet, images[0])
