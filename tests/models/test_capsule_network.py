import numpy as np
import pytest
from helpers import close, small_capsnet

from keras_capsules import models


def test_both_networks_are_capsule_networks():
    networks = (models.CapsNet, models.MatrixCapsNet)
    assert all(issubclass(network, models.CapsuleNetwork) for network in networks)


def test_the_most_active_capsules_are_drawn_without_labels():
    model = small_capsnet(objects=2)
    images = np.random.default_rng(0).random((4, 16, 14, 1), dtype="float32")
    outputs = model.predict(images, verbose=0)
    highest = np.argsort(outputs["scores"], -1)[:, -2:]
    labels = np.eye(3)[highest].sum(1)
    close(model.reconstruct(images), model.decode(outputs["poses"], labels), atol=1e-5)


def test_a_picture_of_one_class_shows_its_pose_alone():
    model = small_capsnet()
    poses = np.random.default_rng(0).random((2, 3, 6), dtype="float32")
    others = poses.copy()
    others[:, [0, 2]] = 9.0
    labels = np.array([1, 1])
    close(model.decode(poses, labels), model.decode(others, labels))


@pytest.mark.parametrize("objects", [0, 4])
def test_bad_objects(objects):
    with pytest.raises(ValueError, match="objects"):
        small_capsnet(objects=objects)
