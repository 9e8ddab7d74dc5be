"""Composes many scenes on all processors and keeps them in one array."""

import hashlib
import inspect
import json
import multiprocessing
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from . import figures, scenes
from .material import Picture, load

TRAINING = scenes.Recipe()

_pictures: list[Picture] = []
_stocks: dict[str, scenes.Stock] = {}


@dataclass(frozen=True)
class Batch:
    """``count`` scenes of one fold after one recipe; ``seed`` tells sets with equal recipes apart."""

    fold: str
    count: int
    seed: int
    recipe: scenes.Recipe = TRAINING


@dataclass
class Dataset:
    """Scenes and what is in them, index by index."""

    pixels: np.ndarray  # N×224×224×3, bytes
    kinds: np.ndarray  # N, one of scenes.KINDS
    folds: np.ndarray  # N
    made_from: str  # names the scenes: equal where material, recipe and seeds are

    @property
    def labels(self) -> np.ndarray:
        """1 where there is a penguin."""
        return (self.kinds == "penguin").astype(np.int64)


def _start(folder: str) -> None:
    global _pictures
    _pictures = load(Path(folder))
    _stocks.clear()


def _one(job: tuple[str, tuple[int, ...], scenes.Recipe]) -> tuple[np.ndarray, str]:
    fold, seed, recipe = job
    if fold not in _stocks:
        _stocks[fold] = scenes.stock(_pictures, fold)
    return scenes.compose(seed, _stocks[fold], recipe)


def _fingerprint(material: Path, batches: list[Batch]) -> str:
    h = hashlib.sha256()
    h.update(json.loads((material / "index.json").read_text())["stamp"].encode())
    for module in (scenes, figures):
        h.update(inspect.getsource(module).encode())
    h.update(json.dumps([asdict(b) for b in batches]).encode())
    return h.hexdigest()


def compose(material: Path, batches: list[Batch], out: Path, processes: int | None = None, say=print) -> Dataset:
    """Make the scenes, or read them where the same ones were made before."""
    stamp = _fingerprint(material, batches)
    names = [out / f"{part}.npy" for part in ("pixels", "kinds", "folds")]
    done = out / "stamp"
    if done.exists() and done.read_text() == stamp:
        return Dataset(*(np.load(n, mmap_mode="r") for n in names), stamp)
    out.mkdir(parents=True, exist_ok=True)
    done.unlink(missing_ok=True)
    jobs = [(b.fold, (b.seed, i), b.recipe) for b in batches for i in range(b.count)]
    pixels = np.lib.format.open_memmap(names[0], "w+", np.uint8, (len(jobs), scenes.SIZE, scenes.SIZE, 3))
    kinds = []
    # Processes that start afresh: a fork of one in which TensorFlow's threads run may hang.
    with multiprocessing.get_context("spawn").Pool(processes, _start, (str(material),)) as pool:
        for i, (scene, kind) in enumerate(pool.imap(_one, jobs, chunksize=32)):
            pixels[i] = scene
            kinds.append(kind)
            if (i + 1) % 1000 == 0:
                say(f"composed {i + 1} of {len(jobs)} scenes")
    pixels.flush()
    np.save(names[1], np.array(kinds))
    np.save(names[2], np.array([j[0] for j in jobs]))
    done.write_text(stamp)
    return Dataset(*(np.load(n, mmap_mode="r") for n in names), stamp)
