"""Figures of training histories, evaluations and capsules."""

from keras_capsules.plotting.assignments import assignments
from keras_capsules.plotting.attacks import attack_curves
from keras_capsules.plotting.credit_maps import credit_maps
from keras_capsules.plotting.curves import curves
from keras_capsules.plotting.error_by_toy import error_by_toy
from keras_capsules.plotting.errors import errors
from keras_capsules.plotting.objects import objects_apart
from keras_capsules.plotting.pose_tweaks import pose_tweaks
from keras_capsules.plotting.read_outs import read_outs
from keras_capsules.plotting.reconstructions import reconstructions
from keras_capsules.plotting.routing_history import routing_history
from keras_capsules.plotting.trials import trials
from keras_capsules.plotting.viewpoints import viewpoint_errors
from keras_capsules.plotting.vote_distances import vote_distances

__all__ = [
    "assignments",
    "attack_curves",
    "credit_maps",
    "curves",
    "error_by_toy",
    "errors",
    "objects_apart",
    "pose_tweaks",
    "read_outs",
    "reconstructions",
    "routing_history",
    "trials",
    "viewpoint_errors",
    "vote_distances",
]
