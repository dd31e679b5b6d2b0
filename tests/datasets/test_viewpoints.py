import numpy as np
import pytest
from helpers import all_examples

from keras_capsules import datasets
from keras_capsules.datasets import viewpoints
from keras_capsules.datasets.pairs import Pairs

ELEVATIONS, AZIMUTHS = (grid.ravel() for grid in np.mgrid[:9, :18])
TOYS = np.zeros_like(AZIMUTHS)
FAMILIAR = {"azimuth": {15, 16, 17, 0, 1, 2}, "elevation": {0, 1, 2}}


@pytest.fixture(params=FAMILIAR)
def novel(request, monkeypatch):
    """Pairs whose label is the viewpoint, and 100 more if they are test pairs."""
    viewpoint = {"azimuth": AZIMUTHS, "elevation": ELEVATIONS}[request.param]

    def load(builder, split, stereo):
        images = np.random.default_rng(0).integers(0, 255, (162, 48, 48, 1), "uint8")
        labels = viewpoint + 100 * (split == "test")
        return Pairs(images, labels.astype("int32"), ELEVATIONS, AZIMUTHS, TOYS)

    monkeypatch.setattr(viewpoints, "load", load)
    monkeypatch.setattr(viewpoints, "download", lambda name, data_dir: name)
    monkeypatch.setattr(viewpoints, "render", lambda config, data_dir: config)
    return request.param


@pytest.mark.parametrize("name", ["smallnorb", "toys/small", "toys/full"])
def test_only_the_novel_part_has_viewpoints_not_trained_on(name, novel):
    split = datasets.viewpoint_split(name, novel)
    labels = [all_examples(part)[1] for part in split]
    assert [len(part) for part in labels] == [49, 5, 54, 108]
    train, validation, familiar, unseen = map(set, labels)
    assert train | validation == FAMILIAR[novel]
    assert familiar == {label + 100 for label in FAMILIAR[novel]}
    count = 18 if novel == "azimuth" else 9
    assert unseen == {label + 100 for label in set(range(count)) - FAMILIAR[novel]}


def test_crops_are_for_the_tests(novel):
    split = datasets.viewpoint_split("toys/small", novel, crops=2)
    shapes = [part.element_spec[0].shape for part in split]
    assert shapes == [(32, 32, 1), (32, 32, 1), (4, 32, 32, 1), (4, 32, 32, 1)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("norb", "azimuth"), "'toys/full'.*Received: name='norb'"),
        (("smallnorb", "lighting"), "'elevation'.*Received: novel='lighting'"),
        (("smallnorb", "azimuth", None, False, 0), "Received: crops=0"),
    ],
)
def test_arguments_are_checked_before_the_download(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.viewpoint_split(*arguments)
