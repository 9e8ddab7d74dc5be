"""Measures a model file on what it was not trained on, and prints the tables.

The file is run as a device runs it: bytes in, stretched by Pillow, LiteRT.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from . import dataset, material, scenes
from .sources import TEST_FOLD

# Per cell of the table so many scenes; each has one thing of the cell's kind.
CELL = 300
PHOTOGRAPHS = "real photographs without a penguin"
BIRDS, OBJECTS, EMPTY = "bird on an empty desk", "object on an empty desk", "empty desk or room"
_EASY = {"rendered": 0.0, "clutter": 0.0, "harsh": 0.6, "partly": 0.0, "dyed": 0.0}


@dataclass
class Row:
    """One line of the table: how many pictures of what, and how many were judged right."""

    name: str
    penguin: bool
    scores: np.ndarray
    pictures: np.ndarray = field(default_factory=lambda: np.zeros((0, scenes.SIZE, scenes.SIZE, 3), np.uint8))

    @property
    def share(self) -> float:
        """How many of a hundred were judged right."""
        return 100 * self.right / len(self.scores)

    @property
    def right(self) -> int:
        return int(((self.scores > 0.5) == self.penguin).sum())


class Classifier:
    """Runs a model folder's file and gives the probability of a penguin."""

    def __init__(self, model: Path, threads: int = 1):
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
        return self.score(opened(path))


def opened(path: Path) -> np.ndarray:
    """A file's picture as the model takes it."""
    with Image.open(path) as picture:
        return scenes.stretch(ImageOps.exif_transpose(picture).convert("RGB"))


def cells(fold: str = TEST_FOLD, count: int = CELL) -> dict[str, dataset.Batch]:
    """The table's composed rows for one fold's art."""
    rows: dict[str, scenes.Recipe] = {}
    for low, high in ((0.5, 0.95), (0.3, 0.5), (0.2, 0.3), (0.12, 0.2)):
        rows[f"penguin, {low:.0%}-{high:.0%} of the height"] = scenes.Recipe("penguin", (low, high), **_EASY)
    crowd = {"rendered": 0.0, "clutter": 1.0, "dyed": 0.0}
    rows["penguin among clutter, 20%-95%"] = scenes.Recipe("penguin", (0.2, 0.95), **crowd)
    rows[BIRDS] = scenes.Recipe("bird", (0.2, 0.95), desk=1.0, **_EASY)
    rows[OBJECTS] = scenes.Recipe("object", (0.2, 0.95), desk=1.0, **_EASY)
    rows["birds and objects anywhere"] = scenes.Recipe("bird", (0.2, 0.95), **crowd)
    rows[EMPTY] = scenes.Recipe("empty", **_EASY)
    rows["rendered penguin toy, 20%-95%"] = scenes.Recipe("penguin", (0.2, 0.95), rendered=1.0, clutter=0.3)
    rows["rendered other toy, 20%-95%"] = scenes.Recipe("bird", (0.2, 0.95), rendered=1.4, clutter=0.3)
    return {name: dataset.Batch(fold, count, 900_000 + i, recipe) for i, (name, recipe) in enumerate(rows.items())}


def composed_rows(model: Classifier, prepared: Path, work: Path, fold: str = TEST_FOLD, say=print) -> list[Row]:
    batches = cells(fold)
    data = dataset.compose(prepared, list(batches.values()), work / f"evaluate-{fold}", say=say)
    scores = np.array([model.score(np.ascontiguousarray(p)) for p in data.pixels])
    rows, start = [], 0
    for name, batch in batches.items():
        part = slice(start, start + batch.count)
        rows.append(Row(name, batch.recipe.kind == "penguin", scores[part], data.pixels[part]))
        start += batch.count
    return rows


def photo_rows(model: Classifier, prepared: Path) -> list[Row]:
    """Real photographs and paintings without a penguin, as they are."""
    everything = material.load(prepared)
    rows = []
    for name, roles, fold in (
        (PHOTOGRAPHS, ("photo", "background"), TEST_FOLD),
        ("paintings without a penguin", ("painting",), TEST_FOLD),
    ):
        chosen = [p for p in everything if p.role in roles and p.fold == fold]
        pictures = np.stack([scenes.stretch(Image.fromarray(p.pixels)) for p in chosen])
        rows.append(Row(name, False, np.array([model.score(p) for p in pictures]), pictures))
    return rows


def folder_row(model: Classifier, folder: Path, penguin: bool, say=print) -> Row:
    """A folder of pictures; a file that is none is named and left out."""
    scores, pictures = [], []
    for path in sorted(folder.iterdir()):
        try:
            pixels = opened(path)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as err:
            say(f"{path}: left out: {err}")
            continue
        pictures.append(pixels)
        scores.append(model.score(pixels))
        if (scores[-1] > 0.5) != penguin:
            say(f"{path}: wrong, probability of a penguin {scores[-1]:.2f}")
    return Row(str(folder), penguin, np.array(scores), np.array(pictures))


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


def balanced(rows: list[Row]) -> float:
    """Mean of what is right among penguins of a fifth of the height and more, and among scenes without, in per cent."""
    share = {r.name: r.share for r in rows}
    large = [name for name in share if name.startswith("penguin, ")][:3]
    return float(np.mean([np.mean([share[n] for n in large]), np.mean([share[n] for n in (BIRDS, OBJECTS, EMPTY)])]))


def held_out_table(folds: dict[str, list[Row]]) -> str:
    """What models said of whole packages of art that they never saw, as Markdown; right at 0.5 in per cent."""
    names = list(folds)
    lines = ["| pictures | " + " | ".join(names) + " |", "| --- |" + " ---: |" * len(names)]
    for i, row in enumerate(folds[names[0]]):
        lines.append(f"| {row.name} | " + " | ".join(f"{folds[n][i].share:.0f}" for n in names) + " |")
    means = [balanced(folds[n]) for n in names]
    title = "**balanced, penguins of a fifth of the height and more**"
    lines.append(f"| {title} | " + " | ".join(f"{m:.1f}" for m in means) + " |")
    return "\n".join(lines) + f"\n\nMean of the balanced figures {np.mean(means):.1f} %, least {min(means):.1f} %."


def save_held_out(folds: dict[str, list[Row]], temperature: float, shift: float, path: Path) -> None:
    """Keep what only ``make`` can measure, for it takes a model per fold."""
    table = {
        n: [[r.name, r.penguin, [round(float(x), 4) for x in r.scores]] for r in rows] for n, rows in folds.items()
    }
    path.write_text(json.dumps({"temperature": temperature, "shift": shift, "folds": table}, indent=None) + "\n")


def load_held_out(path: Path) -> dict[str, list[Row]]:
    """What ``save_held_out`` kept."""
    table = json.loads(path.read_text())["folds"]
    return {n: [Row(name, penguin, np.array(x)) for name, penguin, x in rows] for n, rows in table.items()}


@dataclass
class Comparison:
    """Decisions of the 8-bit file and of the floating-point model that it was made from, on the same scenes."""

    quantised: np.ndarray
    floating: np.ndarray
    truth: np.ndarray  # whether there is a penguin

    @property
    def equal(self) -> float:
        """Equal decisions, in per cent."""
        return 100 * float(((self.floating > 0.5) == (self.quantised > 0.5)).mean())

    @property
    def right(self) -> tuple[float, float]:
        """What the 8-bit file and what the floating-point model get right, in per cent."""
        return tuple(100 * float(((p > 0.5) == self.truth).mean()) for p in (self.quantised, self.floating))

    def __str__(self) -> str:
        difference = np.abs(self.floating - self.quantised).mean()
        return (
            f"8 bits against floating point, {len(self.truth)} scenes: {self.equal:.1f} % equal decisions, right "
            f"{self.right[0]:.1f} % (floating point {self.right[1]:.1f} %), mean difference of probability "
            f"{difference:.3f}"
        )


def compare(rows: list[Row]) -> Comparison:
    """Run the floating-point model whose weights are kept on every second scene, as the 8-bit file was run."""
    import tensorflow as tf

    from . import network, savedmodel

    exact = savedmodel.model()
    run = tf.function(lambda picture: exact(picture, training=False)["probabilities"][0, 1])
    pixels = np.concatenate([r.pictures for r in rows])[::2]
    floating = [float(run(tf.constant(network.normalise(p[None])))) for p in pixels]
    truth = np.concatenate([np.full(len(r.scores), r.penguin) for r in rows])
    return Comparison(np.concatenate([r.scores for r in rows])[::2], np.array(floating), truth[::2])


def bars(rows: list[Row], folds: dict[str, list[Row]], comparison: Comparison | None, own: list[Row], size: int) -> str:
    """The figures that a release is judged by, each with what is wanted, as Markdown."""
    by_name = {r.name: r for r in rows}
    lines = ["| measure | wanted | found | reached |", "| --- | --- | --- | --- |"]

    def bar(measure: str, wanted: str, found: str, reached: bool) -> None:
        lines.append(f"| {measure} | {wanted} | {found} | {'yes' if reached else 'NO'} |")

    for r in own:
        bar(f"photographs in {r.name}", "all right", f"{r.right} of {len(r.scores)}", r.right == len(r.scores))
    if folds:
        each = {n: balanced(f) for n, f in folds.items()}
        mean, worst = float(np.mean(list(each.values()))), min(each, key=each.get)
        bar("art held out, balanced, mean of the folds", "93 % or more", f"{mean:.1f} %", mean >= 93)
        bar("art held out, balanced, worst fold", "88 % or more", f"{each[worst]:.1f} % ({worst})", each[worst] >= 88)
    for name in (BIRDS, OBJECTS):
        if name in by_name:
            false = 100 - by_name[name].share
            bar(f"false alarms, {name}", "5 % or less", f"{false:.1f} %", false <= 5)
    if PHOTOGRAPHS in by_name:
        r = by_name[PHOTOGRAPHS]
        false = len(r.scores) - r.right
        wanted = "1 % or less of 300 or more"
        bar(f"false alarms, {PHOTOGRAPHS}", wanted, f"{false} of {len(r.scores)}",
            len(r.scores) >= 300 and false <= len(r.scores) / 100)  # fmt: skip
    if comparison is not None:
        lost = comparison.right[1] - comparison.right[0]
        bar("8 bits, equal decisions", "99 % or more", f"{comparison.equal:.1f} %", comparison.equal >= 99)
        bar("8 bits, points lost", "0.5 or less", f"{lost:.1f}", lost <= 0.5)
    bar("size of the file", "6 MB or less", f"{size / 1e6:.2f} MB", size <= 6_000_000)
    return "\n".join(lines)
