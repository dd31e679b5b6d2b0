"""Digits from people's hands, laid out as those of MNIST: light on dark, centred."""

import numpy as np
from PIL import Image


def light_on_dark(picture):
    """A grey picture whose ground is dark, whatever the picture was.

    Args:
        picture: of Pillow, grey or coloured; what is transparent is white paper.

    Returns:
        uint8 `(height, width)`.
    """
    picture = picture.convert("RGBA")
    paper = Image.new("RGBA", picture.size, "white")
    grey = np.asarray(Image.alpha_composite(paper, picture).convert("L"))
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return 255 - grey if np.median(border) > 127 else grey


def centred(picture, size):
    """What was drawn, scaled and moved as in MNIST.

    The longer side becomes 20 of 28 pixels, the centre of mass the centre.

    Args:
        picture: uint8 `(height, width)`, light on dark.
        size: height and width of the result.

    Returns:
        uint8 `(height, width)`, or `None` if nothing was drawn.
    """
    rows, columns = np.nonzero(picture > 25)
    if not len(rows):
        return None
    part = picture[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    scale = min(size) * 20 / 28 / max(part.shape)
    height, width = (max(1, round(scale * side)) for side in part.shape)
    part = np.asarray(Image.fromarray(part).resize((width, height), Image.BOX))
    mass = part / part.sum()
    centre = mass.sum(1) @ np.arange(height), mass.sum(0) @ np.arange(width)
    top, left = (
        int(np.clip(round((whole - 1) / 2 - middle), 0, whole - side))
        for whole, middle, side in zip(size, centre, part.shape, strict=True)
    )
    result = np.zeros(size, "uint8")
    result[top : top + height, left : left + width] = part
    return result


def overlapping(first, second, shift):
    """Two digits over each other, as in MultiMNIST.

    Args:
        first: uint8 `(height, width)`.
        second: likewise.
        shift: pixels between the two, from left to right.

    Returns:
        uint8 `(height, width)`.
    """

    def moved(picture, by):
        rolled = np.roll(picture, by, axis=1)
        rolled[:, slice(0, by) if by >= 0 else slice(by, None)] = 0
        return rolled.astype("int32")

    left = shift // 2
    both = moved(first, -left) + moved(second, shift - left)
    return both.clip(0, 255).astype("uint8")


def tiles(file, size):
    """The pictures that a file holds side by side, row by row.

    Args:
        file: a grey image file.
        size: height and width of a picture.

    Returns:
        uint8 `(pictures, height, width)`.
    """
    sheet = np.asarray(Image.open(file).convert("L"))
    height, width = size
    rows, columns = sheet.shape[0] // height, sheet.shape[1] // width
    split = sheet.reshape(rows, height, columns, width).swapaxes(1, 2)
    return split.reshape(rows * columns, height, width)
