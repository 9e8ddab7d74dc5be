"""Makes the sample pictures that come with the model, from art it was never trained on.

They are for trying things out (``make run``, the README), in the shapes that
cameras give. What each is made of, and under which licence, is written into
``README.md`` beside them.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from . import figures, scenes
from .material import Picture, cutout
from .sources import TEST_FOLD

OWN = "Apache-2.0"
# Seeds from here on are used for samples alone.
_SEED = 7_000_000


@dataclass(frozen=True)
class Thing:
    """Art (part of a file's name, or ``toy``), its height and its place as parts of the frame."""

    art: str
    height: float
    x: float
    y: float


@dataclass(frozen=True)
class Sample:
    """One sample; ``back`` is part of a background's name, or a number for a drawn desk."""

    file: str
    back: str | int
    things: tuple[Thing, ...]
    licence: str
    source: str
    size: tuple[int, int] = (640, 360)


SAMPLES = (
    Sample("penguin-toy-desk.jpg", 3, (Thing("toy", 0.6, 0.55, 0.35),), OWN, "desk and toy rendered by this project"),
    Sample(
        "penguin-plush-desk.jpg",
        8,
        (Thing("plush_tux", 0.5, 0.2, 0.42), Thing("telephone/phone.png", 0.3, 0.62, 0.6)),
        OWN,
        "desk drawn by this project; penguin and telephone: Open Clip Art, public domain",
    ),
    Sample(
        "penguin-emperor-meadow.jpg",
        "seeding_by",
        (Thing("emperor_penguin", 0.75, 0.6, 0.2),),
        "CC0-1.0",
        "photograph: Clemens Engelhardt (lomiri-wallpapers-16.04), CC0-1.0; penguin: Open Clip Art, public domain",
    ),
    Sample(
        "penguin-plush-living-room.jpg",
        "Wine_by",
        (Thing("plush_tux", 0.35, 0.1, 0.6),),
        "CC-BY-4.0",
        "photograph: Jakub Mede (lomiri-wallpapers-16.04), CC-BY-4.0; penguin: Open Clip Art, public domain",
        (480, 640),
    ),
    Sample(
        "penguin-mountain-path.jpg",
        "picosdeeuropa",
        (Thing("new_penguin", 0.45, 0.42, 0.5),),
        "CC-BY-4.0",
        "photograph: Aitzol Berasategi (lomiri-wallpapers-16.04), CC-BY-4.0; penguin: Open Clip Art, public domain",
    ),
    Sample("desk-empty.jpg", 12, (), OWN, "desk drawn by this project"),
    Sample(
        "desk-telephone.jpg",
        15,
        (Thing("telephone/phone.png", 0.45, 0.3, 0.45), Thing("office/eraser", 0.2, 0.75, 0.6)),
        OWN,
        "desk drawn by this project; things: Open Clip Art, public domain",
    ),
    Sample(
        "desk-gull.jpg",
        21,
        (Thing("jonathon_s", 0.55, 0.4, 0.35),),
        OWN,
        "desk drawn by this project; gull: Open Clip Art, public domain",
    ),
    Sample(
        "living-room.jpg",
        "Wine_by",
        (),
        "CC-BY-4.0",
        "photograph: Jakub Mede (lomiri-wallpapers-16.04), CC-BY-4.0",
        (480, 640),
    ),
    Sample(
        "meadow-dandelions.jpg",
        "seeding_by",
        (),
        "CC0-1.0",
        "photograph: Clemens Engelhardt (lomiri-wallpapers-16.04), CC0-1.0",
    ),
    Sample(
        "dogs-at-door.jpg",
        "friends_by",
        (),
        "CC-BY-4.0",
        "photograph: Aitzol Berasategi (lomiri-wallpapers-16.04), CC-BY-4.0",
        (480, 640),
    ),
)


def _find(pictures: list[Picture], part: str) -> Image.Image:
    for p in pictures:
        if p.fold == TEST_FOLD and part in p.name:
            return Image.fromarray(p.pixels)
    raise LookupError(f"no picture of the fold that is held out has {part!r} in its name")


def _cover(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Fill the frame, cropping what is left over evenly."""
    scale = max(size[0] / picture.width, size[1] / picture.height)
    big = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
    x, y = (big.width - size[0]) // 2, (big.height - size[1]) // 2
    return big.crop((x, y, x + size[0], y + size[1]))


def make(sample: Sample, pictures: list[Picture], number: int) -> Image.Image:
    rng = np.random.default_rng([_SEED, number])
    if isinstance(sample.back, int):
        frame = scenes.desk(np.random.default_rng([_SEED, sample.back]), *sample.size)
    else:
        frame = _cover(_find(pictures, sample.back), sample.size)
    for thing in sample.things:
        if thing.art == "toy":
            art = cutout(Image.fromarray(figures.render(figures.penguin(rng), rng, 400)))
        else:
            art = _find(pictures, thing.art)
        height = int(thing.height * frame.height)
        art = art.convert("RGBa").resize((max(1, height * art.width // art.height), height), Image.Resampling.BICUBIC)
        art = art.convert("RGBA")
        scenes.shadow(rng, frame, art, int(thing.x * frame.width), int(thing.y * frame.height))
        frame.paste(art, (int(thing.x * frame.width), int(thing.y * frame.height)), art)
    return frame


def write(pictures: list[Picture], folder: Path) -> list[Path]:
    """Make all samples and the list of their sources."""
    folder.mkdir(parents=True, exist_ok=True)
    paths, lines = [], []
    for number, sample in enumerate(SAMPLES):
        path = folder / sample.file
        make(sample, pictures, number).save(path, quality=88, optimize=True)
        paths.append(path)
        lines.append(f"| `{sample.file}` | {sample.licence} | {sample.source} |")
    (folder / "README.md").write_text(
        "# Sample pictures\n\n"
        "For `make run` and for trying commands. Files whose name begins with `penguin` show one, the others do not.\n"
        "The model was trained on none of the photographs and none of the art in them; the drawn desks and the\n"
        "rendered toy come from the code that also made training scenes, with seeds of their own.\n"
        "The photographs were cropped and made smaller; where a penguin is listed, it was put in. Authors and\n"
        "licences of the photographs are those in the copyright file of the Debian package that is named.\n"
        "Made by `models/run samples`.\n\n"
        "| file | licence | source |\n| --- | --- | --- |\n" + "\n".join(lines) + "\n"
    )
    return paths
