"""Composes the pictures that the model learns from: desks and rooms, with a penguin or without.

A scene depends on nothing but the material, the recipe in this file and its own
seed, so any scene can be made again alone, on any number of processes. Both
classes get the same backgrounds, the same clutter and the same camera; what
differs is only whether one of the things is a penguin.
"""

import colorsys
import io
import math
from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from . import figures
from .material import Picture, cutout

SIZE = 224
KINDS = ("penguin", "empty", "bird", "object")
# Frame shapes of cameras; the model sees each stretched to a square.
_SHAPES = ((400, 225), (400, 225), (384, 288), (384, 288), (320, 320), (288, 384))
_BILINEAR = Image.Resampling.BILINEAR
# A drawing is shown at most so many times as high as it has pixels: cameras see prints and toys, not blown-up sprites.
_ENLARGED = 2.5
# How often a rendered figure looks drawn.
_DRAWN = 0.3


@dataclass
class Stock:
    """The material of one fold by role, and the figures rendered for it."""

    penguin: list[Picture] = field(default_factory=list)
    bird: list[Picture] = field(default_factory=list)
    object: list[Picture] = field(default_factory=list)
    background: list[Picture] = field(default_factory=list)


def stock(pictures: list[Picture], fold: str) -> Stock:
    s = Stock()
    for p in pictures:
        if p.fold == fold and hasattr(s, p.role):
            getattr(s, p.role).append(p)
    return s


@dataclass(frozen=True)
class Recipe:
    """How scenes are drawn. The defaults train; evaluation fixes some of them."""

    kind: str | None = None  # one of KINDS, or None for the training mixture
    heights: tuple[float, float] = (0.14, 0.95)  # of the main thing, as a part of the frame's height
    rendered: float = 0.4  # how often the penguin is a rendered figure
    clutter: float = 0.55  # how often other things stand around
    desk: float = 0.45  # how often the background is a drawn desk
    harsh: float = 1.0  # strength of the camera's faults
    partly: float = 0.15  # how often only part of the main thing is seen
    dyed: float = 0.3  # how often what is dark about a drawn thing gets a colour


def pick_kind(rng: np.random.Generator) -> str:
    return str(rng.choice(KINDS, p=(0.5, 0.08, 0.21, 0.21)))


# --- backgrounds --------------------------------------------------------------


def _noise(rng: np.random.Generator, w: int, h: int, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise in 0…1 with about ``cells`` blobs across and down."""
    small = Image.fromarray((rng.random((max(2, cells[1]), max(2, cells[0]))) * 255).astype(np.uint8))
    return np.asarray(small.resize((w, h), Image.Resampling.BICUBIC), np.float32) / 255


def _desk_colour(rng: np.random.Generator) -> np.ndarray:
    base = np.array(
        [(0.72, 0.53, 0.34), (0.5, 0.33, 0.2), (0.85, 0.75, 0.6), (0.9, 0.9, 0.88), (0.3, 0.3, 0.32), (0.62, 0.62, 0.6)]
    )[int(rng.integers(6))]
    return np.clip(base + rng.normal(0, 0.06, 3), 0.03, 1)


def _surface(rng: np.random.Generator, w: int, h: int, colour: np.ndarray) -> np.ndarray:
    grain = 0.6 * _noise(rng, w, h, (3, int(rng.integers(20, 90)))) + 0.4 * _noise(rng, w, h, (12, h // 2))
    if rng.random() < 0.4:
        grain = _noise(rng, w, h, (w // 4, h // 4))
    strength = rng.uniform(0.02, 0.25)
    return colour * (1 + strength * (grain - 0.5))[..., None]


def _block(d: ImageDraw.ImageDraw, rng: np.random.Generator, box: tuple[int, int, int, int]) -> None:
    """Something that stands around on desks and is drawn in a few strokes."""
    x0, y0, x1, y1 = box
    grey = tuple(int(c) for c in np.clip(rng.uniform(10, 240) + rng.normal(0, 8, 3), 0, 255))
    kind = int(rng.integers(6))
    if kind == 0:  # screen
        d.rectangle(box, fill=(20, 20, 22))
        m = max(2, (x1 - x0) // 30)
        lit = tuple(int(v) for v in rng.uniform(30, 250, 3))
        d.rectangle((x0 + m, y0 + m, x1 - m, y1 - m), fill=lit)
        for _ in range(int(rng.integers(0, 9))):
            y = int(rng.uniform(y0 + m, y1 - m))
            d.line((x0 + 2 * m, y, x0 + 2 * m + rng.uniform(0.1, 0.8) * (x1 - x0), y), fill=grey, width=2)
    elif kind == 1:  # keyboard
        d.rounded_rectangle(box, 4, fill=grey)
        key = (235, 235, 235) if sum(grey) < 380 else (40, 40, 44)
        for r in range(4):
            for c in range(12):
                kx, ky = x0 + (x1 - x0) * (c + 0.2) / 12, y0 + (y1 - y0) * (r + 0.2) / 4
                d.rectangle((kx, ky, kx + (x1 - x0) / 18, ky + (y1 - y0) / 6), fill=key)
    elif kind == 2:  # paper or book
        d.polygon(
            [(x0, y1), (x0 + (x1 - x0) * 0.2, y0), (x1, y0 + 3), (x1 - 4, y1)],
            fill=tuple(int(v) for v in rng.uniform(120, 255, 3)),
        )
    elif kind == 3:  # cable
        points = [(rng.uniform(x0, x1), rng.uniform(y0, y1)) for _ in range(5)]
        d.line(points, fill=grey, width=int(rng.integers(2, 7)), joint="curve")
    elif kind == 4:  # mug, tin, pot
        d.rectangle((x0, y0, x0 + (y1 - y0) * 0.8, y1), fill=tuple(int(v) for v in rng.uniform(0, 255, 3)))
        d.ellipse((x0, y0 - 5, x0 + (y1 - y0) * 0.8, y0 + 8), fill=grey)
    else:  # box
        d.rectangle(box, fill=tuple(int(v) for v in rng.uniform(0, 255, 3)))


def desk(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    """A drawn desk in front of a wall, or seen from above."""
    horizon = 0 if rng.random() < 0.3 else int(h * rng.uniform(0.1, 0.65))
    a = np.zeros((h, w, 3), np.float32)
    a[horizon:] = _surface(rng, w, h - horizon, _desk_colour(rng))
    if horizon:
        wall = np.clip(rng.uniform(0.2, 0.95) + rng.normal(0, 0.08, 3), 0.02, 1)
        a[:horizon] = _surface(rng, w, horizon, wall)
    yy, xx = np.mgrid[0:h, 0:w]
    cx, cy = rng.uniform(-0.2, 1.2) * w, rng.uniform(-0.3, 0.8) * h
    fall = np.exp(-(((xx - cx) / w) ** 2 + ((yy - cy) / h) ** 2) * rng.uniform(0.2, 2.0))
    a *= (rng.uniform(0.45, 0.8) + rng.uniform(0.2, 0.6) * fall)[..., None]
    picture = Image.fromarray((np.clip(a, 0, 1) * 255).astype(np.uint8))
    d = ImageDraw.Draw(picture)
    for _ in range(int(rng.integers(0, 6))):
        bw, bh = int(w * rng.uniform(0.08, 0.5)), int(h * rng.uniform(0.06, 0.4))
        x = int(rng.uniform(-0.2, 0.95) * w)
        y = int(rng.uniform(max(0, horizon - bh), h))
        _block(d, rng, (x, y, x + bw, y + bh))
    return picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.8)))


def _gradient(rng: np.random.Generator, w: int, h: int) -> Image.Image:
    c = rng.random((2, 2, 3)) * 255
    picture = Image.fromarray(c.astype(np.uint8)).resize((w, h), Image.Resampling.BICUBIC)
    a = np.asarray(picture, np.float32)
    a = (
        a
        + 60 * rng.random() * (_noise(rng, w, h, (int(rng.integers(2, 40)), int(rng.integers(2, 40)))) - 0.5)[..., None]
    )
    return Image.fromarray(np.clip(a, 0, 255).astype(np.uint8))


def _photo(rng: np.random.Generator, picture: Picture, w: int, h: int) -> Image.Image:
    """A random crop of a background, at least a third of it."""
    ph, pw = picture.pixels.shape[:2]
    scale = min(pw / w, ph / h) * rng.uniform(0.45, 1.0)
    cw, ch = max(8, int(w * scale)), max(8, int(h * scale))
    x, y = int(rng.integers(0, max(1, pw - cw + 1))), int(rng.integers(0, max(1, ph - ch + 1)))
    crop = Image.fromarray(picture.pixels[y : y + ch, x : x + cw])
    if rng.random() < 0.5:
        crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return crop.resize((w, h), _BILINEAR)


def background(rng: np.random.Generator, s: Stock, recipe: Recipe, w: int, h: int) -> Image.Image:
    r = rng.random()
    if r < recipe.desk:
        return desk(rng, w, h)
    if s.background and r < recipe.desk + (1 - recipe.desk) * 0.8:
        picture = _photo(rng, s.background[int(rng.integers(len(s.background)))], w, h)
        if rng.random() < 0.3:
            picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 4)))
        return picture
    return _gradient(rng, w, h)


# --- things on it -------------------------------------------------------------


def _rendered(rng: np.random.Generator, kind: str, side: int) -> Image.Image:
    if kind == "penguin":
        parts = figures.penguin(rng)
    elif kind == "bird" and rng.random() < 0.4:
        parts = figures.bird(rng)
    else:
        parts = figures.other(rng)
    picture = cutout(Image.fromarray(figures.render(parts, rng, side, _DRAWN)))
    return picture if picture is not None else Image.new("RGBA", (24, 24), (90, 90, 90, 255))


def _relight(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Shade across the thing, another tint, less contrast: art does not stay as crisp as it was drawn."""
    a = np.asarray(picture, np.float32).copy()
    h, w = a.shape[:2]
    rgb = a[..., :3] / 255
    rgb = rgb ** rng.uniform(0.75, 1.35)
    angle = rng.uniform(0, 2 * math.pi)
    ramp = np.cos(angle) * np.linspace(-1, 1, w)[None, :] + np.sin(angle) * np.linspace(-1, 1, h)[:, None]
    rgb = rgb * (1 + rng.uniform(0, 0.4) * ramp)[..., None] * rng.uniform(0.6, 1.15)
    black = rng.uniform(0, 0.12)
    rgb = black + (1 - black) * rgb + rng.normal(0, 0.02, 3)
    a[..., :3] = np.clip(rgb, 0, 1) * 255
    return Image.fromarray(a.astype(np.uint8))


def _dye(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Give what is dark a colour: toys and drawings are not all black where the animal is."""
    a = np.asarray(picture, np.float32).copy()
    rgb = a[..., :3] / 255
    light = rgb.max(-1, keepdims=True)
    dark = np.clip(1.3 - light / 0.4, 0, 1)
    colour = np.array(colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.4, 1), rng.uniform(0.25, 0.75)), np.float32)
    rgb = rgb * (1 - dark) + dark * colour * (0.6 + light)
    if rng.random() < 0.4:  # and a tint of it over the rest
        rgb = rgb * (1 - 0.35 * rng.random() * (1 - colour))
    a[..., :3] = np.clip(rgb, 0, 1) * 255
    return Image.fromarray(a.astype(np.uint8))


def _print_on_card(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """The thing as a picture: on a sheet, a screen, a mug's label."""
    w, h = picture.size
    mx, my = int(w * rng.uniform(0.05, 0.5)) + 2, int(h * rng.uniform(0.05, 0.35)) + 2
    colour = tuple(int(v) for v in (rng.uniform(200, 255, 3) if rng.random() < 0.6 else rng.uniform(0, 255, 3)))
    card = Image.new("RGBA", (w + 2 * mx, h + 2 * my), (*colour, 255))
    if rng.random() < 0.4:
        ImageDraw.Draw(card).rectangle(
            (0, 0, card.width - 1, card.height - 1), outline=(20, 20, 20, 255), width=max(2, mx // 3)
        )
    card.alpha_composite(picture, (mx, my))
    return card


def _part(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """What can be seen of a thing that stands behind an edge: its upper part, or one side."""
    w, h = picture.size
    if rng.random() < 0.65:
        return picture.crop((0, 0, w, int(h * rng.uniform(0.5, 0.85))))
    cut = int(w * rng.uniform(0.15, 0.4))
    return picture.crop((cut, 0, w, h) if rng.random() < 0.5 else (0, 0, w - cut, h))


def _lean(rng: np.random.Generator, picture: Image.Image) -> Image.Image:
    """Turn and slant, as something seen from the side."""
    if rng.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.convert("RGBa")
    w, h = picture.size
    picture = picture.resize((max(8, int(w * rng.uniform(0.8, 1.15))), h), _BILINEAR)
    angle = rng.normal(0, 9) if rng.random() < 0.9 else rng.uniform(-100, 100)
    picture = picture.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    if rng.random() < 0.3:
        w, h = picture.size
        slant = rng.uniform(-0.2, 0.2)
        shift = abs(slant) * h
        picture = picture.transform(
            (int(w + shift), h),
            Image.Transform.AFFINE,
            (1, slant, -shift if slant > 0 else 0, 0, 1, 0),
            Image.Resampling.BICUBIC,
        )
    return picture.convert("RGBA")


def shadow(rng: np.random.Generator, frame: Image.Image, thing: Image.Image, x: int, y: int) -> None:
    """Darken the frame where a thing at (x, y) keeps the light off: behind it, or under it."""
    alpha = thing.getchannel("A")
    w, h = thing.size
    soft = max(1.0, h * rng.uniform(0.01, 0.08))
    pad = int(3 * soft)
    shade = Image.new("L", (w + 2 * pad, h + 2 * pad), 0)
    if rng.random() < 0.5:  # on the wall behind it
        shade.paste(alpha, (pad, pad))
        dx, dy = int(rng.normal(0, 0.08) * w), int(rng.uniform(0, 0.08) * h)
    else:  # under it
        flat = alpha.resize((w, max(2, h // 5)))
        shade.paste(flat, (pad, pad + h - flat.height))
        dx, dy = int(rng.normal(0, 0.05) * w), int(0.06 * h)
    strength = rng.uniform(0.2, 0.7)
    shade = shade.filter(ImageFilter.GaussianBlur(soft)).point(lambda v: int(v * strength))
    frame.paste((0, 0, 0), (x - pad + dx, y - pad + dy), shade)


def _place(rng: np.random.Generator, frame: Image.Image, thing: Image.Image, height: float, main: bool) -> None:
    """Paste with a soft shadow; the main thing stays at least three quarters inside."""
    w, h = frame.size
    thing = thing.crop(thing.getchannel("A").getbbox() or (0, 0, *thing.size))
    scale = min(height * h / thing.height, 1.1 * w / thing.width)
    size = max(6, int(thing.width * scale)), max(6, int(thing.height * scale))
    thing = thing.convert("RGBa").resize(size, _BILINEAR, reducing_gap=2.0).convert("RGBA")
    thing = thing.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 0.9)))
    over = 0.22 if main else 0.5
    x = (
        int(rng.uniform(-over * size[0], w - (1 - over) * size[0]))
        if rng.random() < 0.3
        else int(rng.uniform(0, max(1, w - size[0])))
    )
    top = max(1, h - size[1])
    y = int(rng.uniform(0, top)) if rng.random() < 0.85 else int(rng.uniform(-over / 2, 1 + over / 2) * top)
    if rng.random() < 0.7:
        shadow(rng, frame, thing, x, y)
    frame.paste(thing.convert("RGB"), (x, y), thing.getchannel("A"))


def sharp_at(pool: list[Picture], tall: float) -> list[Picture]:
    """Those that have the pixels to be shown ``tall`` pixels high; all where none has."""
    return [p for p in pool if p.pixels.shape[0] * _ENLARGED >= tall] or pool


def _thing(
    rng: np.random.Generator, s: Stock, kind: str, tall: float, rendered: float, partly: float = 0.15, dyed: float = 0.0
) -> Image.Image:
    """A thing of a kind that can be shown ``tall`` pixels high."""
    pool = sharp_at(getattr(s, kind), tall)
    if not pool or rng.random() < rendered:
        picture = _rendered(rng, kind, 160)
    else:
        picture = Image.fromarray(pool[int(rng.integers(len(pool)))].pixels).convert("RGBA")
        if rng.random() < dyed:
            picture = _dye(rng, picture)
    if rng.random() < partly:
        picture = _part(rng, picture)
    return _lean(rng, _relight(rng, picture))


# --- the camera ----------------------------------------------------------------


def camera(rng: np.random.Generator, frame: Image.Image, harsh: float) -> Image.Image:
    """Light, colour, blur, noise, compression; then the stretch to the model's square."""
    a = np.asarray(frame, np.float32) / 255
    exposure = rng.normal(0, 0.22 * harsh)
    if rng.random() < 0.12 * harsh:
        exposure -= rng.uniform(0.3, 1.2)
    a = a * 2.0**exposure * (1 + rng.normal(0, 0.06 * harsh, 3))
    contrast = rng.uniform(1 - 0.35 * harsh, 1 + 0.15 * harsh)
    a = np.clip((a - 0.5) * contrast + 0.5, 0, 1) ** rng.uniform(1 - 0.25 * harsh, 1 + 0.3 * harsh)
    if rng.random() < 0.05 * harsh:
        a = a.mean(-1, keepdims=True).repeat(3, -1)  # night mode
    picture = Image.fromarray((a * 255).astype(np.uint8))
    if rng.random() < 0.25 * harsh:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.5, 2.2)))
    if rng.random() < 0.12 * harsh:
        n = int(rng.integers(3, 9))
        taps = np.asarray(picture, np.float32)
        axis = int(rng.integers(2))
        picture = Image.fromarray((sum(np.roll(taps, i, axis) for i in range(n)) / n).astype(np.uint8))
    if rng.random() < 0.5 * harsh:
        a = np.asarray(picture, np.float32)
        a = a + rng.normal(0, rng.uniform(1, 11), a.shape).astype(np.float32)
        picture = Image.fromarray(np.clip(a, 0, 255).astype(np.uint8))
    if rng.random() < 0.6:
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=int(rng.integers(35, 95)))
        picture = Image.open(io.BytesIO(buffer.getvalue())).convert("RGB")
    return picture


def stretch(picture: Image.Image) -> np.ndarray:
    """The model's input for any picture: stretched to 224×224, RGB bytes.

    Pillow's BILINEAR is a triangle filter that widens when it shrinks, first
    across, then down, rounded to bytes in between.
    """
    return np.asarray(picture.convert("RGB").resize((SIZE, SIZE), _BILINEAR))


def compose(seed: tuple[int, ...], s: Stock, recipe: Recipe) -> tuple[np.ndarray, str]:
    """One scene: its pixels (224×224×3, bytes) and its kind."""
    rng = np.random.default_rng(list(seed))
    kind = recipe.kind or pick_kind(rng)
    if kind == "empty" and recipe.kind is None:
        # Drawn desks are in all the other scenes; rooms and landscapes without anything must be learned too.
        recipe = replace(recipe, desk=recipe.desk / 2)
    w, h = _SHAPES[int(rng.integers(len(_SHAPES)))]
    frame = background(rng, s, recipe, w, h)
    if rng.random() < recipe.clutter:
        for _ in range(int(rng.integers(1, 4))):
            height = math.exp(rng.uniform(math.log(0.1), math.log(0.6)))
            _place(rng, frame, _thing(rng, s, "object", height * h, 0.3), height, main=False)
    if kind != "empty":
        low, high = recipe.heights
        number = 1 if rng.random() < 0.85 else int(rng.integers(2, 4))
        for _ in range(number):
            rendered = recipe.rendered if kind == "penguin" else recipe.rendered * 0.75
            height = math.exp(rng.uniform(math.log(low), math.log(high)))
            thing = _thing(rng, s, kind, height * h, rendered, recipe.partly, recipe.dyed)
            if rng.random() < 0.12:
                thing = _print_on_card(rng, thing)
            _place(rng, frame, thing, height, main=True)
        if recipe.clutter and rng.random() < 0.1:  # something in front of it
            height = low * rng.uniform(0.5, 1.0)
            _place(rng, frame, _thing(rng, s, "object", height * h, 0.3), height, main=False)
    return stretch(camera(rng, frame, recipe.harsh)), kind
