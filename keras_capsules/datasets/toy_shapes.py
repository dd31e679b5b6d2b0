"""Meshes of toys of five categories, with random proportions."""

from collections.abc import Iterator

import numpy as np
import trimesh

from keras_capsules.datasets.solids import (
    SIDES,
    at,
    ball,
    block,
    disc,
    hanging,
    hull,
    limb,
    upwards,
    wheel,
    wing,
)

CATEGORIES = ("four-legged animals", "human figures", "airplanes", "trucks", "cars")
Parts = Iterator[trimesh.Trimesh]

# Chosen so that both the training and the test toys include every kind of truck.
_SEED = 467


def toy(category: int, instance: int) -> trimesh.Trimesh:
    """Returns the mesh of a toy, always the same for the same arguments.

    Args:
        category: index into `CATEGORIES`.
        instance: index of the toy in its category, any integer from 0.

    Returns:
        A mesh that stands on the plane z = 0. It lies within a sphere of radius 1 whose
        centre is above the origin, and touches the sphere.
    """
    rng = np.random.default_rng((_SEED, category, instance))
    make = (_animal, _human, _airplane, _truck, _car)[category]
    mesh = trimesh.util.concatenate(list(make(rng)))
    low, high = mesh.bounds
    mesh.apply_translation([*-(low + high)[:2] / 2.0, -low[2]])
    centre = at(0, 0, (high - low)[2] / 2.0)
    mesh.apply_scale(1.0 / np.linalg.norm(mesh.vertices - centre, axis=1).max())
    return mesh


def _animal(rng: np.random.Generator) -> Parts:
    length, legs = rng.uniform(0.6, 1.5), rng.uniform(0.25, 1.1)
    chest, hips = rng.uniform(0.22, 0.5), rng.uniform(0.2, 0.45)
    front = at(length / 2, 0, legs + chest * 0.6)
    back = at(-length / 2, 0, front[2] + rng.uniform(-0.2, 0.1))
    yield hull(ball(front, chest), ball(back, hips))

    thick = rng.uniform(0.06, 0.16)
    for joint, width in ((front, chest), (back, hips)):
        for side in SIDES:
            top = joint + at(0, side * (width - thick), 0)
            foot = at(top[0] + rng.uniform(-0.25, 0.25), top[1], thick)
            knee = (top + foot) / 2 + at(rng.uniform(-0.08, 0.08), 0, 0)
            yield from limb([top, knee, foot], [thick * 1.5, thick, thick])

    neck, skull = rng.uniform(0.1, 1.0), rng.uniform(0.16, 0.32)
    head = front + (chest * 0.7 + neck * 0.7) * upwards(rng.uniform(0.1, 1.4))
    yield from limb([front, head], [chest * 0.75, skull * rng.uniform(0.6, 0.9)])
    snout = head + rng.uniform(0.15, 0.55) * upwards(rng.uniform(-1.0, 0.1))
    yield hull(ball(head, skull), ball(snout, skull * rng.uniform(0.35, 0.75)))
    ear, lop = rng.uniform(0.08, 0.25), rng.uniform(-0.5, 1.2)
    horned, rise = rng.random() < 0.4, rng.uniform(0.8, 2.0)
    for side in SIDES:
        root = head + skull * at(-0.3, side * 0.7, 0.6)
        tip = root + ear * at(-0.2, side * np.cos(lop), np.sin(lop))
        yield from limb([root, tip], [0.09, 0.05])
        if horned:
            root = head + skull * at(0.3, side * 0.4, 0.7)
            yield from limb([root, root + 0.35 * upwards(rise)], [0.07, 0.03])

    tail = back + hips * at(-0.9, 0, 0.3)
    tuft = tail + rng.uniform(0.05, 0.9) * upwards(np.pi - rng.uniform(-1.3, 0.9))
    yield from limb([tail, tuft], [rng.uniform(0.04, 0.15), rng.uniform(0.02, 0.09)])


def _human(rng: np.random.Generator) -> Parts:
    legs, trunk = rng.uniform(0.6, 1.05), rng.uniform(0.45, 0.75)
    shoulders, girth = rng.uniform(0.22, 0.38), rng.uniform(0.12, 0.22)
    lean = rng.uniform(-0.1, 0.2)
    hips = at(0, 0, legs)
    neck = hips + at(lean, 0, trunk)
    yield hull(
        *(ball(hips + at(0, side * girth * 0.6, 0), girth) for side in SIDES),
        *(
            ball(neck + at(0, side * shoulders * 0.7, -0.08), girth * 0.8)
            for side in SIDES
        ),
    )

    stride, spread = rng.uniform(-0.45, 0.45), rng.uniform(0.0, 0.25)
    thick = girth * rng.uniform(0.5, 0.75)
    for side in SIDES:
        top = hips + at(0, side * girth * 0.7, 0)
        foot = at(side * stride, side * (girth * 0.7 + spread), thick * 0.7)
        knee = (top + foot) / 2 + at(rng.uniform(0.0, 0.15), 0, 0)
        yield from limb([top, knee, foot], [thick * 1.2, thick, thick * 0.8])
        yield from limb([foot, foot + at(0.18, 0, 0)], [thick * 0.7, thick * 0.6])

    arm, thin = trunk * rng.uniform(0.45, 0.6), thick * rng.uniform(0.6, 0.85)
    for side in SIDES:
        shoulder = neck + at(0, side * shoulders, -0.05)
        # The arm can hang down, point forwards or sideways, or be raised.
        swing, out = rng.uniform(-1.2, 1.7), rng.uniform(0.0, 1.0)
        elbow = shoulder + arm * hanging(swing, side * out)
        hand = elbow + arm * hanging(swing + rng.uniform(0.0, 1.2), side * out / 2)
        yield from limb([shoulder, elbow, hand], [thin * 1.2, thin, thin * 0.9])
    if rng.random() < 0.5:
        half = rng.uniform(0.3, 0.8) * hanging(rng.uniform(-0.8, 0.8), 0.0)
        yield from limb([hand - half, hand + half], [0.04, 0.04])

    skull = rng.uniform(0.14, 0.24)
    head = neck + at(lean * 0.3, 0, skull * 1.1)
    yield from limb([neck, head], [skull * 0.5, skull])
    if rng.random() < 0.5:
        crown = head + at(0, 0, skull * 0.5)
        brim, peak = skull * rng.uniform(1.1, 1.9), skull * rng.uniform(0.2, 0.9)
        top = crown + at(0, 0, rng.uniform(0.1, 0.35))
        yield hull(disc(crown, brim, 2), disc(crown + at(0, 0, 0.04), brim, 2))
        yield hull(disc(crown, skull * 0.9, 2), disc(top, peak, 2))
    if rng.random() < 0.4:
        hem = hips - at(0, 0, legs * rng.uniform(0.3, 0.75))
        wide = girth * rng.uniform(1.6, 2.4)
        yield hull(disc(hips + at(0, 0, 0.1), girth * 1.1, 2), disc(hem, wide, 2))
    if rng.random() < 0.4:
        pack = (hips + neck) / 2 - at(girth * 1.3, 0, -0.05)
        yield block(pack, [0.25, shoulders * 1.3, trunk * rng.uniform(0.5, 0.9)])


def _airplane(rng: np.random.Generator) -> Parts:
    length, girth = rng.uniform(0.7, 1.1), rng.uniform(0.1, 0.22)
    nose, tail = at(length, 0, 0), at(-length, 0, girth * 0.5)
    yield from limb(
        [nose, at(length * 0.6, 0, 0), at(-length * 0.3, 0, 0), tail],
        [girth * rng.uniform(0.2, 0.9), girth, girth, girth * rng.uniform(0.2, 0.5)],
    )
    cockpit = at(length * rng.uniform(0.1, 0.6), 0, girth * 0.8)
    yield hull(ball(cockpit, girth * at(1.6, 0.6, 0.7)))

    chord, span = rng.uniform(0.25, 0.65), rng.uniform(0.65, 1.25)
    narrow = chord * rng.uniform(0.25, 1.0)
    root = at(rng.uniform(-0.1, 0.35), 0, girth * rng.uniform(-0.7, 0.9))
    sweep, rise = rng.uniform(-0.05, 0.6), rng.uniform(-0.05, 0.25)
    biplane = rng.random() < 0.25
    for side in SIDES:
        along = at(-sweep, side * span, rise)
        yield wing(root, chord, root + along, narrow)
        if biplane:
            upper = root + at(0, 0, 0.4)
            yield wing(upper, chord, upper + along, narrow)
            strut = root + 0.7 * along - at(narrow / 2, 0, 0)
            yield from limb([strut, strut + at(0, 0, 0.4)], [0.03, 0.03])
    for place in np.arange(1, 1 + rng.integers(0, 3)) * 0.32:
        for side in SIDES:
            pod = root + place * at(-sweep, side * span, rise) - at(0, 0, 0.06)
            yield from limb([pod + at(0.12, 0, 0), pod - at(0.25, 0, 0)], [0.1, 0.07])

    short = rng.uniform(0.18, 0.32)
    rear = at(-length + short * 0.9, 0, girth * 0.4)
    high, wide = rng.choice([0.0, 0.4]), span * rng.uniform(0.3, 0.5)
    for side in SIDES:
        level = rear + at(0, 0, high)
        yield wing(level, short, level + at(-0.15, side * wide, 0.03), short * 0.6)
    fin = at(-rng.uniform(0.1, 0.3), 0, rng.uniform(0.4, 0.55))
    twin = not high and rng.random() < 0.4
    for side in SIDES if twin else (0.0,):
        foot = rear + at(0, side * wide * 0.6, 0)
        yield wing(foot, short * 1.2, foot + fin, short * 0.7)

    if rng.random() < 0.5:
        hub = nose + at(girth, 0, 0)
        angle = rng.uniform(0.0, np.pi)
        blade = rng.uniform(0.25, 0.45) * at(0, np.cos(angle), np.sin(angle))
        yield from limb([hub - blade, hub + blade], [0.04, 0.04])
        yield from limb([nose, hub + at(0.05, 0, 0)], [girth * 0.5, 0.05])
    drop = girth + rng.uniform(0.15, 0.3)
    for x, y in ((length * 0.6, 0.0), (-0.1, 0.25), (-0.1, -0.25)):
        yield from limb([at(x, y * 0.4, 0), at(x, y, -drop)], [0.035, 0.035])
        yield wheel(at(x, y, -drop), 0.09, 0.07)


def _truck(rng: np.random.Generator) -> Parts:
    width, tire = rng.uniform(0.32, 0.42), rng.uniform(0.13, 0.2)
    cab, bed = rng.uniform(0.35, 0.55), rng.uniform(0.9, 1.8)
    tall, deck = rng.uniform(0.5, 0.8), tire * 1.6
    hood = rng.uniform(0.25, 0.45) if rng.random() < 0.5 else 0.0
    start = bed + rng.uniform(0.03, 0.15)
    total = start + cab + hood
    yield block(at(total / 2, 0, deck), [total, width * 1.4, 0.12])

    middle = at(start + cab / 2, 0, deck + tall / 2)
    yield block(middle, [cab, width * 2, tall], rng.uniform(0.75, 1.0, 2))
    if hood:
        middle = at(start + cab + hood / 2, 0, deck + tall / 4)
        yield block(middle, [hood, width * 1.7, tall / 2], (0.9, 0.85))
    if rng.random() < 0.4:
        for side in SIDES:
            pipe = at(start - 0.02, side * width * 0.9, deck)
            yield from limb([pipe, pipe + at(0, 0, tall + 0.25)], [0.04, 0.04])

    load = rng.choice([_box, _tank, _dumper, _crane, _logs])
    yield from load(rng, bed, width, deck)

    rear = tire * (1.3 + 2.3 * np.arange(rng.integers(1, 4)))
    for x in (total - (hood or cab) / 2, *rear):
        for side in SIDES:
            yield wheel(at(x, side * width * 0.85, tire), tire, 0.16)


def _box(rng: np.random.Generator, bed: float, width: float, deck: float) -> Parts:
    tall = rng.uniform(0.5, 1.0)
    yield block(at(bed / 2, 0, deck + tall / 2), [bed, width * 2.1, tall])


def _tank(rng: np.random.Generator, bed: float, width: float, deck: float) -> Parts:
    radius = width * rng.uniform(0.8, 1.05)
    level = deck + radius
    yield hull(
        *(disc(at(x, 0, level), radius, 0) for x in (0.05, bed - 0.05)),
        *(ball(at(x, 0, level), radius * 0.7) for x in (0.2, bed - 0.2)),
    )
    for x in np.linspace(0.25, 0.75, rng.integers(1, 4)) * bed:
        hatch = at(x, 0, level + radius)
        yield hull(disc(hatch, 0.12, 2), disc(hatch + at(0, 0, 0.08), 0.12, 2))


def _dumper(rng: np.random.Generator, bed: float, width: float, deck: float) -> Parts:
    tilt = rng.uniform(0.0, 0.7)
    turn = trimesh.transformations.rotation_matrix(-tilt, [0, 1, 0], [0, 0, deck])
    for part in _tray(bed, width, deck + 0.08, rng.uniform(0.25, 0.5)):
        yield part.apply_transform(turn)
    lift = at(bed * 0.55, 0, deck)
    yield from limb([lift, lift + at(0, 0, lift[0] * np.tan(tilt))], [0.06, 0.05])


def _crane(rng: np.random.Generator, bed: float, width: float, deck: float) -> Parts:
    house = bed * rng.uniform(0.25, 0.6)
    yield block(at(house, 0, deck + 0.2), [bed * 0.35, width * 1.7, 0.35], (0.8, 0.9))
    foot = at(house, 0, deck + 0.35)
    tip = foot + rng.uniform(0.9, 1.4) * upwards(rng.uniform(0.15, 1.0))
    hook = tip - at(0, 0, rng.uniform(0.15, 0.3))
    yield from limb([foot, tip, hook], [0.1, 0.05, 0.03])


def _logs(rng: np.random.Generator, bed: float, width: float, deck: float) -> Parts:
    yield from _tray(bed, width, deck + 0.05, rng.uniform(0.08, 0.25))
    radius = rng.uniform(0.1, 0.16)
    for row in range(rng.integers(0, 3)):
        for y in np.arange(row - 2, 3 - row, 2) * radius:
            log = at(0.05, y, deck + 0.1 + (1.7 * row + 1.0) * radius)
            yield hull(disc(log, radius, 0), disc(log + at(bed, 0, 0), radius, 0))


def _tray(bed: float, width: float, floor: float, tall: float) -> Parts:
    yield block(at(bed / 2, 0, floor), [bed, width * 2.1, 0.08])
    for side in SIDES:
        yield block(at(bed / 2, side * width, floor + tall / 2), [bed, 0.07, tall])
    for x in (0.04, bed - 0.04):
        yield block(at(x, 0, floor + tall / 2), [0.07, width * 2, tall])


def _car(rng: np.random.Generator) -> Parts:
    length, width = rng.uniform(0.8, 1.15), rng.uniform(0.36, 0.48)
    tire, clear = rng.uniform(0.15, 0.24), rng.uniform(0.08, 0.15)
    belt, bumper = clear + rng.uniform(0.24, 0.36), rng.uniform(0.03, 0.1)
    hood, trunk = belt * rng.uniform(0.75, 1.0), belt * rng.uniform(0.75, 1.05)
    outline = (
        (length, clear + 0.06),
        (length - bumper, hood),
        (0.2, belt),
        (-0.3, belt),
        (bumper - length, trunk),
        (-length, clear + 0.06),
    )
    yield hull(
        *(ball(at(x, y * (width - 0.06), z), 0.06) for x, z in outline for y in SIDES)
    )

    front, slope = rng.uniform(0.25, 0.55), rng.uniform(0.15, 0.4)
    if rng.random() < 0.25:
        yield from _open_top(front, slope, width, belt)
    else:
        back, rake = -rng.uniform(0.35, 1.0) * length, rng.uniform(0.02, 0.35)
        roof, narrow = belt + rng.uniform(0.22, 0.38), width * rng.uniform(0.65, 0.85)
        yield hull(
            *(ball(at(x, y * (width - 0.07), belt - 0.05), 0.05)
              for x in (front, back) for y in SIDES),
            *(ball(at(x, y * narrow, roof), 0.05)
              for x in (front - slope, back + rake) for y in SIDES),
        )  # fmt: skip

    if rng.random() < 0.3:
        yield block(at(0.08 - length, 0, belt + 0.17), [0.22, width * 1.9, 0.05])
        for side in SIDES:
            post = at(0.1 - length, side * width * 0.6, belt + 0.05)
            yield block(post, [0.06, 0.05, 0.22])
    fenders, tread = rng.random() < 0.5, rng.uniform(0.12, 0.2)
    for x in (length * 0.62, -length * 0.62):
        for side in SIDES:
            hub = at(x, side * width, tire)
            yield wheel(hub, tire, tread)
            if fenders:
                yield hull(ball(hub, [tire * 1.35, 0.1, tire * 1.3]))


def _open_top(front: float, slope: float, width: float, belt: float) -> Parts:
    glass = ((0.0, -0.05), (slope * 0.7, 0.24))
    yield hull(
        *(
            ball(at(front - x, side * (width * 0.85 - x * 0.3), belt + z), 0.025)
            for x, z in glass
            for side in SIDES
        )
    )
    for side in SIDES:
        seat = at(front - 0.45, side * width * 0.45, belt)
        yield block(seat, [0.12, width * 0.6, 0.34], (0.6, 0.8))
        yield from limb([seat, seat - at(0.3, 0, 0.02)], [0.06, 0.06])
