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
# This notebook shows how EM routing processes an image, in a trained network of "Matrix
# capsules with EM routing".

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
# Each child votes for the pose of each class. The votes for the class in the image lie
# closer to the pose of that class, and each iteration assigns more children to it.

# %%
plotting.vote_distances(model, images, labels)

# %% [markdown]
# The next figure shows where in the image the children of a class are. In the first
# iteration every child is assigned equally to all classes.

# %%
plotting.assignments(model, images[0])

# %% [markdown]
# `RoutingMonitor` measures the assignments. `effective_parents` is the number of
# parents that a child is effectively assigned to, divided by the number of all parents:
# 1 means that the child is assigned equally to all. As a callback of `fit`, the monitor
# measures after each epoch.

# %%
for layer, found in callbacks.RoutingMonitor(images).measure(model).items():
    print(layer, {name: round(value, 2) for name, value in found.items()})
