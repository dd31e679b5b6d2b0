import numpy as np
import pytest
from helpers import all_examples

from keras_capsules import datasets
from keras_capsules.datasets import viewpoints
from keras_capsules.datasets.photographs import Photographs

ELEVATIONS, AZIMUTHS = (grid.ravel() for grid in np.mgrid[30:71:5, :360:20])
FAMILIAR = {"azimuth": {300, 320, 340, 0, 20, 40}, "elevation": {30, 35, 40}}
# The views of an object of ETH-80: azimuths by their elevations.
AROUND = (0, 22, 45, 68, 90, 112, 135, 158, 180, 202, 225, 248, 270, 292, 315, 338)
QUARTERS = (0, 90, 180, 270)
ETH80 = {
    0: AROUND,
    22: QUARTERS,
    24: (27, 63, 117, 153, 207, 243, 297, 333),
    45: QUARTERS,
    55: (45, 135, 225, 315),
    68: QUARTERS,
    90: (0,),
}
FAMILIAR_ETH80 = {"azimuth": {292, 315, 338, 0, 22, 45}, "elevation": {0, 22, 24}}


def photographs(elevations, azimuths, labels):
    """Noise from these viewpoints."""
    elevations, azimuths = np.array(elevations), np.array(azimuths)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (len(labels), 48, 48, 1), "uint8")
    instances = np.zeros_like(azimuths)
    return Photographs(images, labels.astype("int32"), elevations, azimuths, instances)


@pytest.fixture(params=FAMILIAR)
def novel(request, monkeypatch):
    """Pairs whose label is the viewpoint, and 1000 more if they are test pairs."""
    viewpoint = {"azimuth": AZIMUTHS, "elevation": ELEVATIONS}[request.param]

    def load_both(builder, stereo):
        return [
            photographs(ELEVATIONS, AZIMUTHS, labels)
            for labels in (viewpoint, viewpoint + 1000)
        ]

    monkeypatch.setattr(viewpoints, "load_both", load_both)
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
    assert familiar == {label + 1000 for label in FAMILIAR[novel]}
    every = set(AZIMUTHS if novel == "azimuth" else ELEVATIONS)
    assert unseen == {label + 1000 for label in every - FAMILIAR[novel]}


@pytest.mark.parametrize("novel", FAMILIAR_ETH80)
def test_viewpoints_of_eth80(novel, monkeypatch):
    views = [(height, side) for height, sides in ETH80.items() for side in sides]
    elevations, azimuths = np.array(views * 2).T  # two objects
    views = 1000 * elevations + azimuths

    def load_eth80(data_dir):
        assert data_dir == "folder"
        return [
            photographs(elevations, azimuths, labels)
            for labels in (views, views + 100_000)
        ]

    monkeypatch.setattr(viewpoints, "load_eth80", load_eth80)
    split = datasets.viewpoint_split("eth80", novel, "folder")
    labels = [all_examples(part)[1] for part in split]
    train, validation, familiar, unseen = map(set, labels)
    if novel == "azimuth":
        assert [len(part) for part in labels] == [11, 1, 12, 20]
        assert train | validation == FAMILIAR_ETH80[novel]
        every = set(AROUND)
    else:
        assert [len(part) for part in labels] == [51, 5, 56, 26]
        heights = FAMILIAR_ETH80[novel]
        assert train | validation == {v for v in views if v // 1000 in heights}
        every = set(views)
    seen = train | validation
    assert familiar == {view + 100_000 for view in seen}
    assert unseen == {view + 100_000 for view in every - seen}


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
        (("eth80", "azimuth", ".", True), "stereo must be False.*stereo=True"),
        (("eth80", "azimuth"), "`data_dir`.*Received: data_dir=None"),
    ],
)
def test_arguments_are_checked_before_the_download(arguments, message):
    with pytest.raises(ValueError, match=message):
        datasets.viewpoint_split(*arguments)
