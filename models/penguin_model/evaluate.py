"""Measures a model file on what it was not trained on, and prints the table.

The file is run as a device runs it: bytes in, stretched by Pillow, LiteRT.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from . import dataset, material, scenes
from .sources import TEST_FOLD

# Per cell of the table so many scenes; each has one thing of the cell's kind.
CELL = 300
_EASY = {"rendered": 0.0, "clutter": 0.0, "harsh": 0.6, "partly": 0.0}


@dataclass
class Row:
    """One line of the table: how many pictures of what, and how many were judged right."""

    name: str
    penguin: bool
    scores: np.ndarray

    @property
    def right(self) -> int:
        return int(((self.scores > 0.5) == self.penguin).sum())


class Classifier:
    """Runs a model folder's file and gives the probability of a penguin."""

    def __init__(self, model: Path, threads: int = 2):
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(model / "model.tflite"), num_threads=threads)
        self._interpreter.allocate_tensors()
        self._input = self._interpreter.get_input_details()[0]["index"]
        labels = (model / "labels.txt").read_text().split()
        self._column = labels.index("penguin")
        self._output = next(o for o in self._interpreter.get_output_details() if o["shape"][-1] == len(labels))

    def score(self, pixels: np.ndarray) -> float:
        """Probability of a penguin in 224×224×3 bytes."""
        self._interpreter.set_tensor(self._input, pixels[None])
        self._interpreter.invoke()
        scale, zero = self._output["quantization"]
        out = self._interpreter.get_tensor(self._output["index"])[0]
        return float((int(out[self._column]) - zero) * scale)

    def score_file(self, path: Path) -> float:
        with Image.open(path) as picture:
            return self.score(scenes.stretch(ImageOps.exif_transpose(picture).convert("RGB")))


def cells(fold: str = TEST_FOLD, count: int = CELL) -> dict[str, dataset.Batch]:
    """The table's composed rows for one fold's art."""
    rows: dict[str, scenes.Recipe] = {}
    for low, high in ((0.5, 0.95), (0.3, 0.5), (0.2, 0.3), (0.12, 0.2)):
        rows[f"penguin, {low:.0%}-{high:.0%} of the height"] = scenes.Recipe("penguin", (low, high), **_EASY)
    rows["penguin among clutter, 20%-95%"] = scenes.Recipe("penguin", (0.2, 0.95), rendered=0.0, clutter=1.0)
    rows["bird on an empty desk"] = scenes.Recipe("bird", (0.2, 0.95), desk=1.0, **_EASY)
    rows["object on an empty desk"] = scenes.Recipe("object", (0.2, 0.95), desk=1.0, **_EASY)
    rows["birds and objects anywhere"] = scenes.Recipe("bird", (0.2, 0.95), rendered=0.0, clutter=1.0)
    rows["empty desk or room"] = scenes.Recipe("empty", **_EASY)
    rows["rendered penguin toy, 20%-95%"] = scenes.Recipe("penguin", (0.2, 0.95), rendered=1.0, clutter=0.3)
    rows["rendered other toy, 20%-95%"] = scenes.Recipe("bird", (0.2, 0.95), rendered=1.4, clutter=0.3)
    return {name: dataset.Batch(fold, count, 900_000 + i, recipe) for i, (name, recipe) in enumerate(rows.items())}


def composed_rows(model: Classifier, prepared: Path, work: Path, fold: str = TEST_FOLD, say=print) -> list[Row]:
    batches = cells(fold)
    data = dataset.compose(prepared, list(batches.values()), work / f"evaluate-{fold}", say=say)
    scores = np.array([model.score(np.ascontiguousarray(p)) for p in data.pixels])
    rows, start = [], 0
    for name, batch in batches.items():
        rows.append(Row(name, batch.recipe.kind == "penguin", scores[start : start + batch.count]))
        start += batch.count
    return rows


def photo_rows(model: Classifier, prepared: Path) -> list[Row]:
    """Real photographs and paintings without a penguin, as they are."""
    pictures = material.load(prepared)
    rows = []
    for name, roles, fold in (
        ("real photographs without a penguin", ("photo", "background"), TEST_FOLD),
        ("paintings without a penguin", ("painting",), TEST_FOLD),
    ):
        chosen = [p for p in pictures if p.role in roles and p.fold == fold]
        scores = [model.score(scenes.stretch(Image.fromarray(p.pixels))) for p in chosen]
        rows.append(Row(name, False, np.array(scores)))
    return rows


def folder_row(model: Classifier, folder: Path, penguin: bool, say=print) -> Row:
    """A folder of pictures; a file that is none is named and left out."""
    scores = []
    for path in sorted(folder.iterdir()):
        try:
            scores.append(model.score_file(path))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
            say(f"{path}: left out: {err}")
            continue
        if (scores[-1] > 0.5) != penguin:
            say(f"{path}: wrong, probability of a penguin {scores[-1]:.2f}")
    return Row(str(folder), penguin, np.array(scores))


def table(rows: list[Row]) -> str:
    """The rows as Markdown."""
    lines = ["| pictures | number | right at 0.5 | mean probability of a penguin |", "| --- | ---: | ---: | ---: |"]
    for r in rows:
        if len(r.scores):
            share = f"{r.right} ({100 * r.right / len(r.scores):.1f} %)"
            lines.append(f"| {r.name} | {len(r.scores)} | {share} | {r.scores.mean():.2f} |")
    return "\n".join(lines)


def calibration(rows: list[Row]) -> str:
    """How often there was a penguin where the model gave a probability of so much, as Markdown."""
    scores = np.concatenate([r.scores for r in rows])
    truth = np.concatenate([np.full(len(r.scores), r.penguin) for r in rows])
    lines = ["| probability given | pictures | with a penguin |", "| --- | ---: | ---: |"]
    for low, high in ((0, 0.1), (0.1, 0.3), (0.3, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 1)):
        inside = (scores >= low) & ((scores < high) | (high == 1))
        if inside.any():
            lines.append(f"| {low:.1f} to {high:.1f} | {inside.sum()} | {100 * truth[inside].mean():.0f} % |")
    return "\n".join(lines)


def compare(model: Classifier, keras_file: Path, prepared: Path, work: Path, say=print) -> str:
    """Decisions of the 8-bit file against the floating-point model it was made from, on every fourth scene."""
    import keras

    from . import network

    data = dataset.compose(prepared, list(cells().values()), work / f"evaluate-{TEST_FOLD}", say=say)
    pixels, truth = data.pixels[::4], data.labels[::4] == 1
    exact = keras.models.load_model(keras_file)
    floating = np.array([exact(network.normalise(p[None]))["probabilities"][0, 1] for p in pixels])
    quantised = np.array([model.score(np.ascontiguousarray(p)) for p in pixels])
    equal = ((floating > 0.5) == (quantised > 0.5)).mean()
    right, right_before = (((p > 0.5) == truth).mean() for p in (quantised, floating))
    return (
        f"{len(pixels)} scenes: {100 * equal:.1f} % equal decisions, right {100 * right:.1f} % "
        f"(floating point {100 * right_before:.1f} %), "
        f"mean difference of probability {np.abs(floating - quantised).mean():.3f}"
    )
