"""The performance page: confusion matrix, precision-recall curve, calibration, worst pictures.

``tuxwatch evaluate`` draws it, as it does for anyone's own model, from pictures
that are written to a folder for it. So the page also says what the product
itself, not this Python, makes of them.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

from .evaluate import Row

PROGRAM = Path(__file__).resolve().parent.parent.parent / "build" / "bin" / "tuxwatch"


class PageError(Exception):
    """The page could not be written; the message says why and what to do."""


def write_pictures(rows: list[Row], folder: Path) -> tuple[Path, Path]:
    """Write the rows' pictures and return the folder of those with a penguin and of those without."""
    shutil.rmtree(folder, ignore_errors=True)
    sides = folder / "penguin", folder / "noPenguin"
    for side in sides:
        side.mkdir(parents=True)
    for row in rows:
        side = sides[0] if row.penguin else sides[1]
        name = row.name.replace("/", "-")
        for i, pixels in enumerate(row.pictures):
            Image.fromarray(np.asarray(pixels)).save(side / f"{name} {i + 1}.png", compress_level=1)
    return sides


def write(rows: list[Row], model: Path, folder: Path, out: Path, program: Path = PROGRAM) -> None:
    """Draw the page of a model folder on the rows' pictures, which go to ``folder``."""
    if not any(r.penguin for r in rows) or all(r.penguin for r in rows):
        raise PageError(f"{out}: a page needs pictures with a penguin and pictures without one")
    if not program.exists():
        raise PageError(f"{out}: {program} draws the page and is not there; run 'make build' first")
    positive, negative = write_pictures(rows, folder)
    out.parent.mkdir(parents=True, exist_ok=True)
    command = [program, "evaluate", "--model", model, "--positive", positive, "--negative", negative, "--html", out]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PageError(f"{out}: {program.name} could not draw the page: {done.stderr.strip()}")
