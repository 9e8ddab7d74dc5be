"""Renders small toy figures: penguins, and what is easily taken for one.

Clip art is flat; a camera sees plastic and plush from every side, with
highlights and shade. So figures are built from ellipsoids and ray-cast, which
is exact, needs no graphics library and gives the same bytes on every machine.
The same code makes bears, pandas, crows, ducks, snowmen and men in suits, or a
model would learn that whatever is rendered is a penguin.
"""

import colorsys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
# Where on a part which colour is: takes points on the unit sphere (N×3), returns N×3.
Paint = Callable[[np.ndarray], np.ndarray]

BLACKS: tuple[Colour, ...] = ((0.04, 0.04, 0.05), (0.09, 0.09, 0.1), (0.12, 0.13, 0.2), (0.15, 0.12, 0.11))
_WHITES: tuple[Colour, ...] = ((0.95, 0.95, 0.95), (0.93, 0.9, 0.82), (0.85, 0.87, 0.9))
YELLOWS: tuple[Colour, ...] = ((0.98, 0.75, 0.1), (0.95, 0.6, 0.08), (0.98, 0.85, 0.25), (0.9, 0.45, 0.1))


@dataclass
class Part:
    """An ellipsoid in the figure's space: x right, y up, z towards the viewer."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    paint: Paint
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)  # degrees about x, y, z
    gloss: float = 1.0


def rotation(x: float, y: float, z: float) -> np.ndarray:
    """Rotation matrix about z, then y, then x, in degrees."""
    a, b, c = np.radians([x, y, z])
    rx = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    ry = np.array([[np.cos(b), 0, np.sin(b)], [0, 1, 0], [-np.sin(b), 0, np.cos(b)]])
    rz = np.array([[np.cos(c), -np.sin(c), 0], [np.sin(c), np.cos(c), 0], [0, 0, 1]])
    return rx @ ry @ rz


def angles(turned: np.ndarray) -> tuple[float, float, float]:
    """The degrees about x, y and z that ``rotation`` makes this matrix from."""
    level = np.hypot(turned[0, 0], turned[0, 1])
    y = np.arctan2(turned[0, 2], level)
    if level < 1e-9:  # x and z turn about the same axis then: all of it is given to x
        x, z = np.arctan2(turned[2, 1], turned[1, 1]), 0.0
    else:
        x, z = np.arctan2(-turned[1, 2], turned[2, 2]), np.arctan2(-turned[0, 1], turned[0, 0])
    return tuple(float(a) for a in np.degrees([x, y, z]))


def plain(colour: Colour) -> Paint:
    return lambda u: np.broadcast_to(np.asarray(colour), u.shape)


def front_patch(base: Colour, patch: Colour, half_width: float, low: float, high: float) -> Paint:
    """``patch`` on the front between the heights low and high (−1…1), ``base`` elsewhere."""
    middle, half = (low + high) / 2, max((high - low) / 2, 1e-3)

    def paint(u: np.ndarray) -> np.ndarray:
        inside = (u[:, 2] > 0) & ((u[:, 0] / half_width) ** 2 + ((u[:, 1] - middle) / half) ** 2 < 1)
        return np.where(inside[:, None], np.asarray(patch), np.asarray(base))

    return paint


def spotted(base: Colour, spot: Colour, rng: np.random.Generator) -> Paint:
    centres = rng.normal(size=(5, 3))
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    limits = rng.uniform(0.75, 0.95, 5)

    def paint(u: np.ndarray) -> np.ndarray:
        inside = (u @ centres.T > limits).any(1)
        return np.where(inside[:, None], np.asarray(spot), np.asarray(base))

    return paint


def layered(first: Paint, *patches: tuple[Colour, float, float, float, float]) -> Paint:
    """``first``, and over it ellipses on the front: colour, half width, low, high (−1…1), x of the middle."""

    def paint(u: np.ndarray) -> np.ndarray:
        colours = np.array(first(u))
        for colour, half_width, low, high, x in patches:
            middle, half = (low + high) / 2, max((high - low) / 2, 1e-3)
            inside = (u[:, 2] > 0) & (((u[:, 0] - x) / half_width) ** 2 + ((u[:, 1] - middle) / half) ** 2 < 1)
            colours[inside] = colour
        return colours

    return paint


def _edges(which: np.ndarray, width: int) -> np.ndarray:
    """Where one part ends and another, or nothing, begins: a line of ``width`` pixels inside the figure."""
    edge = np.zeros(which.shape, bool)
    for axis in (0, 1):
        for step in range(-width, width + 1):
            edge |= np.roll(which, step, axis) != which
    return edge & (which >= 0)


def render(parts: list[Part], rng: np.random.Generator, side: int = 200, drawn: float = 0.0) -> np.ndarray:
    """Ray-cast the parts from a random direction under a random light; RGBA, trimmed by nobody.

    ``drawn``: how often it looks like a drawing: flat colours, few shades, dark lines.
    """
    view = rotation(rng.uniform(-8, 40), rng.normal(0, 38), 0)
    centres = np.array([view @ p.centre for p in parts])
    reach = np.array([max(p.radii) for p in parts])
    low = (centres[:, :2] - reach[:, None]).min(0)
    high = (centres[:, :2] + reach[:, None]).max(0)
    extent = float((high - low).max()) * 1.02
    middle = (low + high) / 2
    steps = (np.arange(side) + 0.5) / side - 0.5
    x = middle[0] + steps[None, :].repeat(side, 0) * extent
    y = middle[1] - steps[:, None].repeat(side, 1) * extent
    origin = np.stack([x.ravel(), y.ravel(), np.zeros(side * side)], 1)

    depth = np.full(side * side, -np.inf)
    normal = np.zeros((side * side, 3))
    colour = np.zeros((side * side, 3))
    gloss = np.zeros(side * side)
    which = np.full(side * side, -1)
    for i, (part, centre) in enumerate(zip(parts, centres, strict=True)):
        near = np.nonzero((np.abs(origin[:, :2] - centre[:2]) <= max(part.radii)).all(1))[0]
        frame = view @ rotation(*part.turn)
        radii = np.asarray(part.radii)
        o = (origin[near] - centre) @ frame / radii
        d = (np.array([0.0, 0.0, -1.0]) @ frame) / radii
        a, b, c = d @ d, o @ d, (o * o).sum(1) - 1
        root = b * b - a * c
        hit = np.nonzero(root > 0)[0]
        t = (-b[hit] - np.sqrt(root[hit])) / a
        z = -t
        rows = near[hit]
        front = z > depth[rows]
        rows, u = rows[front], (o[hit] + t[:, None] * d)[front]
        n = (u / radii) @ frame.T
        depth[rows] = z[front]
        normal[rows] = n / np.linalg.norm(n, axis=1, keepdims=True)
        colour[rows] = part.paint(u)
        gloss[rows] = part.gloss
        which[rows] = i

    plush = rng.random() < 0.35
    if plush:
        normal += rng.normal(0, 0.18, normal.shape)
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-6)
    light = np.array([rng.normal(0, 0.7), rng.uniform(0.2, 1.2), rng.uniform(0.3, 1.0)])
    light /= np.linalg.norm(light)
    ambient = rng.uniform(0.3, 0.65)
    diffuse = np.clip(normal @ light, 0, None)
    half = light + np.array([0.0, 0.0, 1.0])
    half /= np.linalg.norm(half)
    shine = np.clip(normal @ half, 0, None) ** rng.uniform(15, 90)
    strength = 0.0 if plush else rng.uniform(0.1, 0.8)
    sky = 0.75 + 0.25 * normal[:, 1:2]
    shaded = colour * (ambient * sky + (1.05 - ambient) * diffuse[:, None]) + (strength * gloss * shine)[:, None]
    if drawn and rng.random() < drawn:
        shaded = _as_drawn(rng, colour, diffuse, which.reshape(side, side))

    picture = np.zeros((side * side, 4))
    picture[:, :3] = np.clip(shaded, 0, 1) ** (1 / 1.15)
    picture[:, 3] = depth > -np.inf
    return (picture.reshape(side, side, 4) * 255).astype(np.uint8)


def _as_drawn(rng: np.random.Generator, colour: np.ndarray, diffuse: np.ndarray, which: np.ndarray) -> np.ndarray:
    """Flat colours with at most three shades, and mostly with dark lines."""
    levels = int(rng.integers(1, 4))
    shade = np.floor(np.clip(diffuse, 0, 0.999) * levels) / max(levels - 1, 1) if levels > 1 else np.ones_like(diffuse)
    shaded = colour * (1 - rng.uniform(0.15, 0.5) * (1 - shade))[:, None]
    if rng.random() < 0.7:
        lines = _edges(which, int(rng.integers(1, 3)))
        shaded[lines.ravel()] = _pick(rng, BLACKS)
    return shaded


def _pick(rng: np.random.Generator, options):
    return options[int(rng.integers(len(options)))]


def _eyes(
    rng: np.random.Generator, y: float, z: float, apart: float, size: float, white: Colour | None, tall: float = 1.3
) -> list[Part]:
    parts = []
    pupil = rng.uniform(0.35, 0.6)
    look = rng.uniform(-0.25, 0.25)
    for s in (-1, 1):
        if white is None:
            parts.append(Part((s * apart, y, z), (size * 0.55,) * 3, plain((0.03, 0.03, 0.03))))
            continue
        parts.append(Part((s * apart, y, z), (size, size * tall, size * 0.6), plain(white)))
        parts.append(
            Part((s * apart + look * size, y, z + size * 0.42), (size * pupil, size * tall * pupil, size * 0.3),
                 plain((0.02, 0.02, 0.02)))
        )  # fmt: skip
    return parts


def _hat(rng: np.random.Generator, y: float, r: float) -> list[Part]:
    colour = (rng.uniform(0.1, 0.9), rng.uniform(0.05, 0.6), rng.uniform(0.05, 0.6))
    parts = [
        Part((0, y, 0), (r * 1.05, r * 0.25, r * 1.05), plain(_pick(rng, (*_WHITES, colour)))),
        Part((0, y + r * 0.4, 0), (r * 0.85, r * rng.uniform(0.5, 1.0), r * 0.85), plain(colour)),
    ]
    if rng.random() < 0.5:
        parts.append(Part((0, y + r * 1.2, 0), (r * 0.25,) * 3, plain(_pick(rng, _WHITES))))
    return parts


def _scarf(rng: np.random.Generator, y: float, r: float) -> list[Part]:
    colour = (rng.uniform(0.1, 0.95), rng.uniform(0.05, 0.7), rng.uniform(0.05, 0.7))
    return [Part((0, y, 0), (r, r * 0.22, r), plain(colour), gloss=0.3)]


def _dyed(rng: np.random.Generator) -> Colour:
    """A colour of plush, plastic or ink."""
    return colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.25, 1), rng.uniform(0.25, 0.95))


def round_penguin(rng: np.random.Generator, back: Colour, belly: Colour, orange: Colour) -> list[Part]:
    """One whose head and body are one egg, with the eyes on it; its flippers hang or are spread."""
    width, tall = rng.uniform(0.6, 0.95), rng.uniform(0.75, 1.05)
    deep = width * rng.uniform(0.85, 1.0)
    patches = [(belly, rng.uniform(0.55, 0.85), rng.uniform(-1.2, -0.95), rng.uniform(-0.05, 0.35), 0.0)]
    look = rng.uniform(0.25, 0.6)  # height of the eyes
    apart = rng.uniform(0.16, 0.34)
    face = rng.random()
    if face < 0.35:  # two white ellipses around the eyes
        patches += [(belly, apart * rng.uniform(1.0, 1.5), look - 0.45, look + 0.35, s * apart) for s in (-1, 1)]
    elif face < 0.55:  # the belly's white goes up to the brow
        patches += [(belly, rng.uniform(0.5, 0.75), -0.4, look + rng.uniform(0.1, 0.3), 0.0)]
    parts = [Part((0, 0, 0), (width, tall, deep), layered(plain(back), *patches))]

    def surface(x: float, y: float) -> float:
        return deep * float(np.sqrt(max(0.05, 1 - x * x - y * y)))

    size = width * rng.uniform(0.13, 0.3)
    parts += _eyes(
        rng, look * tall, surface(apart, look) - size * 0.15, apart * width, size,
        _pick(rng, _WHITES) if rng.random() < 0.85 else None, rng.uniform(1.0, 1.7),
    )  # fmt: skip
    low = look - rng.uniform(0.25, 0.45)
    bill = width * rng.uniform(0.2, 0.5)
    parts.append(
        Part((0, low * tall, surface(0, low)), (bill, bill * rng.uniform(0.25, 0.5), bill * rng.uniform(0.5, 1.0)),
             plain(orange), (rng.uniform(0, 25), 0, 0))
    )  # fmt: skip
    spread = rng.random() < 0.4
    lift = [rng.uniform(60, 150) if spread else rng.uniform(10, 50) for _ in range(2)]
    length = tall * rng.uniform(0.35, 0.6)
    shoulder = tall * rng.uniform(-0.05, 0.3)
    for s, angle in zip((-1, 1), lift, strict=True):
        a = np.radians(angle)
        centre = (s * (width * 0.88 + np.sin(a) * length * 0.7), shoulder - np.cos(a) * length * 0.7, 0.0)
        parts.append(
            Part(centre, (width * 0.14, length, width * rng.uniform(0.25, 0.4)), plain(back), (0, 0, s * angle))
        )
    foot = width * rng.uniform(0.28, 0.45)
    for s in (-1, 1):
        parts.append(
            Part((s * width * rng.uniform(0.4, 0.7), -tall * rng.uniform(0.85, 1.0), deep * rng.uniform(0.3, 0.8)),
                 (foot, foot * rng.uniform(0.3, 0.5), foot * rng.uniform(1.1, 1.6)), plain(orange),
                 (0, s * rng.uniform(10, 40), 0))
        )  # fmt: skip
    if rng.random() < 0.12:
        parts += _hat(rng, tall * 0.85, width * 0.55)
    return parts


def penguin(rng: np.random.Generator) -> list[Part]:
    """A sitting or standing toy penguin; proportions, colours and pose vary."""
    back = _pick(rng, BLACKS)
    r = rng.random()
    if r < 0.2:
        back = (rng.uniform(0.03, 0.45), rng.uniform(0.03, 0.45), rng.uniform(0.05, 0.6))
    elif r < 0.4:
        back = _dyed(rng)
    belly, orange = _pick(rng, _WHITES), _pick(rng, YELLOWS)
    if rng.random() < 0.25:
        return round_penguin(rng, back, belly, orange)
    sitting = rng.random() < 0.6
    slim = rng.random() < 0.25
    width = rng.uniform(0.42, 0.52) if slim else rng.uniform(0.56, 0.8)
    tall = rng.uniform(0.9, 1.2) if slim else rng.uniform(0.72, 0.95)
    head = rng.uniform(0.26, 0.34) if slim else rng.uniform(0.36, 0.52)
    if not slim and rng.random() < 0.2:  # cute ones are mostly head
        head = rng.uniform(0.52, 0.75)
    neck = tall * rng.uniform(0.82, 0.98)
    hw, hh = head * rng.uniform(0.9, 1.1), head * rng.uniform(0.95, 1.25)

    body_paint = front_patch(back, belly, rng.uniform(0.62, 0.85), rng.uniform(-1.1, -0.85), rng.uniform(0.55, 0.95))
    parts = [Part((0, 0, 0), (width, tall, width * rng.uniform(0.8, 0.95)), body_paint)]
    head_y = neck + head * 0.35
    face = rng.random()
    if face < 0.35:  # white cheeks, as on most toys
        head_paint = front_patch(back, belly, rng.uniform(0.55, 0.8), -1.0, rng.uniform(0.1, 0.5))
    elif face < 0.47 and not slim:  # a white face in a black hood
        head_paint = front_patch(back, belly, rng.uniform(0.7, 0.9), -1.0, rng.uniform(0.55, 0.9))
    elif face < 0.5 and slim:  # the golden ear of a king penguin
        head_paint = front_patch(back, orange, 0.9, -1.0, -0.3)
    else:
        head_paint = plain(back)
    parts.append(Part((0, head_y, head * 0.08), (hw, hh, head), head_paint))
    size = head * rng.uniform(0.2, 0.34)
    parts += _eyes(
        rng, head_y + hh * rng.uniform(0.15, 0.35), head * 0.95, head * rng.uniform(0.26, 0.38), size,
        belly if rng.random() < 0.85 else None, rng.uniform(1.0, 1.6),
    )  # fmt: skip
    bill_y = head_y - hh * rng.uniform(0.05, 0.25)
    bill = head * (rng.uniform(0.15, 0.25) if slim else rng.uniform(0.3, 0.62))
    bill_colour = (0.15, 0.13, 0.12) if slim and rng.random() < 0.4 else orange
    parts.append(
        Part((0, bill_y, head * 1.05), (bill, head * rng.uniform(0.12, 0.2), head * rng.uniform(0.3, 0.6)),
             plain(bill_colour), (rng.uniform(0, 20), 0, 0))
    )  # fmt: skip
    if not slim and rng.random() < 0.7:
        parts.append(
            Part((0, bill_y - head * 0.14, head * 0.98), (bill * 0.8, head * 0.1, head * 0.3),
                 plain(tuple(0.85 * c for c in orange)))
        )  # fmt: skip

    lift = [rng.uniform(5, 35), rng.uniform(5, 35)]
    if rng.random() < 0.2:
        lift[int(rng.integers(2))] = rng.uniform(80, 150)
    length = tall * rng.uniform(0.5, 0.68)
    shoulder = neck * rng.uniform(0.45, 0.62)
    for s, angle in zip((-1, 1), lift, strict=True):
        a = np.radians(angle)
        centre = (s * (width * 0.9 + np.sin(a) * length * 0.7), shoulder - np.cos(a) * length * 0.7, 0.05)
        parts.append(
            Part(centre, (width * 0.16, length, width * rng.uniform(0.28, 0.42)), plain(back), (0, 0, s * angle))
        )

    foot = width * rng.uniform(0.32, 0.48) if sitting else width * rng.uniform(0.24, 0.38)
    spread = rng.uniform(10, 40)
    reach = rng.uniform(0.75, 1.05) if sitting else rng.uniform(0.3, 0.55)
    for s in (-1, 1):
        parts.append(
            Part((s * width * rng.uniform(0.5, 0.8), -tall * rng.uniform(0.82, 0.95), width * reach),
                 (foot, foot * rng.uniform(0.35, 0.6), foot * rng.uniform(1.2, 1.7)), plain(orange),
                 (-rng.uniform(0, 50) if sitting else 0, s * spread, 0))
        )  # fmt: skip
    if rng.random() < 0.12:
        parts += _hat(rng, head_y + hh * 0.75, head * 0.75)
    if rng.random() < 0.12:
        parts += _scarf(rng, neck * 0.9, max(hw, width * 0.7))
    return parts


def _beast(rng: np.random.Generator) -> list[Part]:
    """Bear, panda, cat, rabbit, dog: a sitting mammal with ears, often black and white."""
    fur = [
        (0.35, 0.22, 0.12),
        (0.6, 0.45, 0.3),
        (0.5, 0.5, 0.52),
        (0.9, 0.9, 0.9),
        (0.06, 0.06, 0.07),
        (0.85, 0.6, 0.6),
    ]
    base, second = _pick(rng, fur), _pick(rng, fur)
    panda = rng.random() < 0.25
    if panda:
        base, second = _pick(rng, _WHITES), _pick(rng, BLACKS)
    width, tall, head = rng.uniform(0.5, 0.75), rng.uniform(0.6, 0.9), rng.uniform(0.4, 0.58)
    light = front_patch(base, second if rng.random() < 0.5 else _pick(rng, _WHITES), 0.6, -0.9, 0.5)
    paint = _pick(rng, (plain(base), light, spotted(base, second, rng)))
    head_y = tall + head * 0.4
    parts = [
        Part((0, 0, 0), (width, tall, width * 0.9), paint),
        Part((0, head_y, 0.05), (head, head * rng.uniform(0.8, 1.0), head), plain(base)),
        Part(
            (0, head_y - head * 0.25, head * 0.8), (head * 0.42, head * 0.32, head * 0.35), plain(_pick(rng, _WHITES))
        ),
        Part((0, head_y - head * 0.12, head * 1.12), (head * 0.14, head * 0.1, head * 0.1), plain((0.05, 0.04, 0.04))),
    ]
    if panda:
        for s in (-1, 1):
            parts.append(
                Part(
                    (s * head * 0.38, head_y + head * 0.12, head * 0.85), (head * 0.2, head * 0.26, 0.1), plain(second)
                )
            )
    parts += _eyes(
        rng, head_y + head * 0.15, head * 0.95, head * 0.35, head * 0.16, _pick(rng, (None, (0.95, 0.95, 0.95)))
    )
    ear = _pick(rng, ((0.24, 0.24), (0.16, 0.34), (0.14, 0.75)))
    for s in (-1, 1):
        parts.append(
            Part((s * head * 0.7, head_y + head * (0.7 + ear[1] * 0.7), 0), (head * ear[0], head * ear[1], head * 0.12),
                 plain(second if panda else base), (0, 0, -s * 20))
        )  # fmt: skip
        parts.append(Part((s * width * 0.95, tall * 0.25, 0.1), (width * 0.25, tall * 0.5, width * 0.28),
                          plain(second if panda else base), (0, 0, s * rng.uniform(10, 60))))  # fmt: skip
        parts.append(Part((s * width * 0.65, -tall * 0.8, width * 0.7), (width * 0.3, width * 0.28, width * 0.55),
                          plain(second if panda else base)))  # fmt: skip
    return parts


def bird(rng: np.random.Generator) -> list[Part]:
    """Crow, magpie, duck, gull, chick, owl, parrot, pigeon: a bird that is no penguin."""
    kind = _pick(rng, ("crow", "magpie", "duck", "gull", "chick", "owl", "parrot", "pigeon"))
    black, white, yellow = _pick(rng, BLACKS), _pick(rng, _WHITES), _pick(rng, YELLOWS)
    bright = (rng.uniform(0, 1), rng.uniform(0.1, 1), rng.uniform(0, 1))
    body, head_c, bill_c, leg_c = {
        "crow": (black, black, (0.1, 0.1, 0.1), (0.15, 0.12, 0.12)),
        "magpie": (black, black, (0.1, 0.1, 0.1), (0.15, 0.12, 0.12)),
        "pigeon": ((0.5, 0.52, 0.56), (0.32, 0.36, 0.42), (0.3, 0.28, 0.28), (0.7, 0.35, 0.3)),
        "duck": (
            _pick(rng, (white, (0.5, 0.4, 0.3), yellow)),
            _pick(rng, (white, (0.05, 0.35, 0.15), yellow)),
            yellow,
            yellow,
        ),
        "gull": (white, white, yellow, (0.8, 0.6, 0.5)),
        "chick": (yellow, yellow, (0.95, 0.5, 0.1), (0.9, 0.5, 0.2)),
        "owl": ((0.45, 0.32, 0.2), (0.5, 0.36, 0.24), (0.3, 0.25, 0.2), (0.5, 0.4, 0.2)),
        "parrot": (bright, bright, (0.2, 0.2, 0.2), (0.4, 0.4, 0.4)),
    }[kind]  # fmt: skip
    lying = kind in ("crow", "magpie", "duck", "gull", "pigeon") and rng.random() < 0.75
    head = rng.uniform(0.26, 0.4)
    if lying:  # body along z: seen from the side after turning
        parts = [
            Part((0, 0, 0), (0.5, 0.45, 0.85), plain(body), (-rng.uniform(5, 25), 0, 0)),
            # a magpie's white flank and belly
            *([Part((0, -0.12, 0.1), (0.52, 0.38, 0.6), plain(white))] if kind == "magpie" else []),
            Part((0, -0.02, -0.95), (0.28, 0.12, 0.4), plain(body if kind != "gull" else black)),
            Part((0, 0.55, 0.7), (head, head, head), plain(head_c)),
        ]
        wing = (0.55, 0.57, 0.6) if kind == "gull" else tuple(0.85 * c for c in body)
        parts += [Part((s * 0.46, 0.08, -0.15), (0.1, 0.3, 0.7), plain(wing)) for s in (-1, 1)]
        face_y, face_z = 0.55, 0.7 + head
        side = rng.choice([-1, 1]) * rng.uniform(40, 100)
        turn = rotation(0, side, 0)
    else:
        paint = plain(body)
        if kind == "owl":
            paint = front_patch(body, (0.75, 0.65, 0.5), 0.6, -0.9, 0.6)
        parts = [
            Part((0, 0, 0), (0.5, 0.65, 0.5), paint),
            Part((0, 0.75, 0.05), (head * 1.1, head, head), plain(head_c)),
        ]
        parts += [Part((s * 0.5, 0.0, -0.05), (0.1, 0.5, 0.3), plain(tuple(0.85 * c for c in body))) for s in (-1, 1)]
        face_y, face_z = 0.75, 0.05 + head
        turn = rotation(0, 0, 0)
    flat = rng.uniform(0.5, 1.0) if kind == "duck" else rng.uniform(0.2, 0.35)
    parts.append(
        Part(
            (0, face_y - head * 0.1, face_z + head * 0.25),
            (head * flat, head * 0.2, head * rng.uniform(0.4, 0.8)),
            plain(bill_c),
        )
    )
    parts += _eyes(rng, face_y + head * 0.25, face_z - head * 0.25, head * (0.45 if kind == "owl" else 0.6),
                   head * (0.3 if kind == "owl" else 0.18), _pick(rng, (None, (0.95, 0.9, 0.6))), 1.0)  # fmt: skip
    for s in (-1, 1):
        parts.append(Part((s * 0.18, -0.72, 0.05), (0.05, 0.3, 0.05), plain(leg_c)))
        parts.append(Part((s * 0.18, -0.98, 0.15), (0.14, 0.04, 0.2), plain(leg_c)))
    for p in parts:
        p.centre = tuple(turn @ np.asarray(p.centre))
        p.turn = (p.turn[0], p.turn[1] + (side if lying else 0), p.turn[2])
    return parts


def _person(rng: np.random.Generator) -> list[Part]:
    """A doll: suit and shirt, or any other clothes."""
    skin = _pick(rng, ((0.95, 0.78, 0.65), (0.75, 0.55, 0.4), (0.45, 0.3, 0.2), (0.98, 0.85, 0.2)))
    coat = _pick(rng, BLACKS) if rng.random() < 0.5 else (rng.random(), rng.random(), rng.random())
    trousers = _pick(rng, BLACKS) if rng.random() < 0.4 else (rng.random() * 0.6, rng.random() * 0.6, rng.random())
    hair = _pick(rng, ((0.1, 0.08, 0.06), (0.4, 0.25, 0.1), (0.8, 0.65, 0.3), (0.6, 0.6, 0.6)))
    head = rng.uniform(0.22, 0.4)
    shirt = front_patch(coat, _pick(rng, _WHITES), rng.uniform(0.15, 0.4), rng.uniform(-0.5, 0.2), 1.0)
    parts = [
        Part((0, 0, 0), (0.42, 0.6, 0.28), shirt, gloss=0.2),
        Part((0, 0.6 + head * 0.8, 0), (head * 0.85, head, head * 0.85), plain(skin), gloss=0.3),
        Part((0, 0.6 + head * 1.15, -head * 0.2), (head * 0.92, head * 0.75, head * 0.85), plain(hair), gloss=0.3),
    ]
    parts += _eyes(rng, 0.6 + head * 0.85, head * 0.8, head * 0.3, head * 0.12, None)
    for s in (-1, 1):
        angle = rng.uniform(5, 40)
        parts.append(Part((s * 0.5, 0.05, 0), (0.12, 0.5, 0.13), plain(coat), (0, 0, s * angle), 0.2))
        parts.append(Part((s * (0.5 + 0.5 * np.sin(np.radians(angle))), -0.45, 0), (0.1, 0.1, 0.1), plain(skin)))
        parts.append(Part((s * 0.19, -0.85, 0), (0.16, 0.5, 0.17), plain(trousers), gloss=0.2))
        parts.append(Part((s * 0.19, -1.32, 0.1), (0.14, 0.08, 0.24), plain(_pick(rng, BLACKS))))
    return parts


def _snowman(rng: np.random.Generator) -> list[Part]:
    white = _pick(rng, _WHITES)
    y, r, parts = 0.0, 0.7, []
    for _ in range(int(rng.integers(2, 4))):
        parts.append(Part((0, y, 0), (r, r * 0.9, r), plain(white), gloss=0.3))
        y, r, last = y + r * 1.35, r * rng.uniform(0.65, 0.8), r
    top, head = parts[-1].centre[1], last
    parts.append(Part((0, top, head * 1.2), (head * 0.12, head * 0.12, head * 0.5), plain(_pick(rng, YELLOWS))))
    parts += _eyes(rng, top + head * 0.3, head * 0.85, head * 0.35, head * 0.2, None)
    if rng.random() < 0.6:
        parts.append(Part((0, top + head * 0.8, 0), (head, head * 0.1, head), plain(_pick(rng, BLACKS))))
        parts.append(Part((0, top + head * 1.2, 0), (head * 0.6, head * 0.55, head * 0.6), plain(_pick(rng, BLACKS))))
    if rng.random() < 0.5:
        parts += _scarf(rng, top - head * 0.75, head)
    return parts


def _thing(rng: np.random.Generator) -> list[Part]:
    """Bottles, balls, mice, cups: one to four ellipsoids, black, white and orange above all."""
    palette = list(BLACKS + _WHITES + YELLOWS) + [(rng.random(), rng.random(), rng.random()) for _ in range(4)]
    parts, y = [], 0.0
    for _ in range(int(rng.integers(1, 5))):
        r = (rng.uniform(0.15, 0.8), rng.uniform(0.15, 0.8), rng.uniform(0.15, 0.8))
        a, b = _pick(rng, palette), _pick(rng, palette)
        paint = _pick(
            rng, (plain(a), plain(a), spotted(a, b, rng), front_patch(a, b, rng.uniform(0.3, 0.9), -0.8, 0.8))
        )
        parts.append(
            Part((rng.normal(0, 0.15), y, rng.normal(0, 0.15)), r, paint, (0, rng.uniform(0, 90), rng.normal(0, 15)))
        )
        y += r[1] * rng.uniform(0.7, 1.6)
    return parts


def round_thing(rng: np.random.Generator) -> list[Part]:
    """A chick, an owl, a monster, a pig: an egg with eyes that is no penguin."""
    base = _pick(rng, BLACKS) if rng.random() < 0.3 else _dyed(rng)
    width, tall = rng.uniform(0.6, 1.0), rng.uniform(0.6, 1.05)
    deep = width * rng.uniform(0.85, 1.0)
    second = _pick(rng, (*_WHITES, _dyed(rng)))
    paint = plain(base)
    if rng.random() < 0.5:
        paint = layered(paint, (second, rng.uniform(0.4, 0.8), -1.1, rng.uniform(-0.3, 0.3), 0.0))
    parts = [Part((0, 0, 0), (width, tall, deep), paint)]
    look, apart = rng.uniform(0.15, 0.6), rng.uniform(0.16, 0.4)
    at = deep * float(np.sqrt(max(0.05, 1 - apart * apart - look * look)))
    size = width * rng.uniform(0.1, 0.3)
    parts += _eyes(rng, look * tall, at - size * 0.15, apart * width, size,
                   _pick(rng, _WHITES) if rng.random() < 0.7 else None, rng.uniform(0.9, 1.5))  # fmt: skip
    nose = rng.random()
    low = look - rng.uniform(0.2, 0.4)
    front = deep * float(np.sqrt(max(0.05, 1 - low * low)))
    if nose < 0.35 and base not in BLACKS:  # a small pointed bill, as of chicks and owls
        r = width * rng.uniform(0.06, 0.14)
        parts.append(Part((0, low * tall, front), (r, r, r * 1.8), plain(_pick(rng, YELLOWS))))
    elif nose < 0.6:  # a snout
        r = width * rng.uniform(0.15, 0.3)
        parts.append(Part((0, low * tall, front), (r, r * 0.75, r * 0.6), plain(_pick(rng, (second, _dyed(rng))))))
    elif nose < 0.8:  # a mouth
        r = width * rng.uniform(0.15, 0.4)
        parts.append(
            Part((0, low * tall, front * 0.95), (r, r * rng.uniform(0.1, 0.6), r * 0.3), plain((0.4, 0.1, 0.1)))
        )
    if rng.random() < 0.5:  # ears or horns
        r = width * rng.uniform(0.12, 0.25)
        for s in (-1, 1):
            parts.append(Part((s * width * 0.6, tall * 0.85, 0), (r, r * rng.uniform(1, 2.5), r * 0.5), plain(base),
                              (0, 0, -s * rng.uniform(0, 35))))  # fmt: skip
    if rng.random() < 0.5:  # arms or wings
        for s in (-1, 1):
            parts.append(Part((s * width, -0.1 * tall, 0.1), (width * 0.14, tall * rng.uniform(0.2, 0.45), width * 0.2),
                              plain(base), (0, 0, s * rng.uniform(10, 140))))  # fmt: skip
    if rng.random() < 0.6:  # feet
        r = width * rng.uniform(0.15, 0.3)
        colour = _pick(rng, (base, second, _pick(rng, YELLOWS)))
        for s in (-1, 1):
            parts.append(Part((s * width * 0.45, -tall * 0.95, deep * 0.4), (r, r * 0.5, r * 1.3), plain(colour)))
    return parts


def other(rng: np.random.Generator) -> list[Part]:
    """A figure that is no penguin."""
    kind = rng.choice(6, p=[0.24, 0.22, 0.14, 0.08, 0.18, 0.14])
    return (_beast, bird, _person, _snowman, _thing, round_thing)[kind](rng)
