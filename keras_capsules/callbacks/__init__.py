"""Callbacks for training capsule networks."""

from keras_capsules._backend import is_first_process
from keras_capsules.callbacks.checkpoint import Checkpoint
from keras_capsules.callbacks.interruptions import exit_cleanly
from keras_capsules.callbacks.routing_monitor import RoutingMonitor
from keras_capsules.callbacks.spread_margin_schedule import SpreadMarginSchedule

__all__ = [
    "Checkpoint",
    "RoutingMonitor",
    "SpreadMarginSchedule",
    "exit_cleanly",
    "is_first_process",
]
