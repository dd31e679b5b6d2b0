import scripts

from keras_capsules import models

networks = scripts.module("networks")


def test_the_paper_s_widths_are_the_defaults():
    paper = networks.capsnet((28, 28, 1), 10, steps=1, **networks.CAPSNETS["paper"])
    assert paper.count_params() == models.CapsNet((28, 28, 1), 10).count_params()


def test_the_small_network_is_the_preset():
    small = networks.capsnet((28, 28, 1), 10, steps=1, **networks.CAPSNETS["small"])
    preset = models.CapsNet.from_preset("capsnet_mnist_small")
    assert small.count_params() == preset.count_params() == 1_280_720
