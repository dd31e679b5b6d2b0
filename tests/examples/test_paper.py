import numpy as np
import scripts

paper = scripts.module("paper")


def test_strokes_are_round_lines():
    sheet = paper.drawn([[(0.25, 0.5), (0.75, 0.5)], [(0.5, 0.9)]], side=100)
    assert sheet.shape == (100, 100) and sheet.dtype == np.uint8
    assert (sheet[50, 25:76] == 255).all() and sheet[90, 50] == 255
    assert not sheet[:40].any() and not sheet[:, :19].any()
    assert paper.drawn([]).sum() == 0
