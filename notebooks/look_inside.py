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
# # Look inside
#
# What does routing do with an image? This notebook follows it through a trained network
# of the second paper, "Matrix capsules with EM routing".

# %%
from keras_capsules import callbacks, datasets, models, plotting

model = models.MatrixCapsNet.from_preset("matrix_capsnet_mnist_small")
images, labels = next(iter(datasets.digits().test.batch(16)))

# %% [markdown]
# `trace` returns what each capsule layer computed in each iteration. The axes of
# `weights` are iterations, images, parents and children.

# %%
trace = model.trace(images)["class_capsules"]
for name, values in trace.items():
    print(name, tuple(values.shape))

# %% [markdown]
# Each child votes for the pose of each class. The votes for the class that is there lie
# nearer to its pose, and it receives more of them with each iteration.

# %%
plotting.vote_distances(model, images, labels)

# %% [markdown]
# Where in the image are the children of a class? In the first iteration every class
# receives the same share of a child.

# %%
plotting.assignments(model, images[0])

# %% [markdown]
# `RoutingMonitor` puts numbers on it. `effective_parents` says among how many parents a
# child is divided, as a share of all of them: 1 means equally among all. As a callback
# of `fit` it measures after each epoch.

# %%
for layer, found in callbacks.RoutingMonitor(images).measure(model).items():
    print(layer, {name: round(value, 2) for name, value in found.items()})
