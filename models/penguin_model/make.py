"""The whole way from prepared material to the released files, and the measurements made on it."""

import hashlib
import shutil
from pathlib import Path

import numpy as np

from . import dataset, evaluate, scenes, sources, train

VERSION = "0.6.0"
# Scenes per fold. Folds weigh alike, however many pictures their packages hold.
PER_FOLD = 3600
# The models that calibrate and that measure unseen art learn from every second
# scene: with all of them they would take four times as long as the released one.
_CALIBRATE_ON = 2
# How many of the pictures that a camera sees have a penguin: what a probability is calibrated to.
_PRIOR = 1 / 3
_SEED = 100
_QUANTISE_ON, _ROUND_ON = 300, 64


# What the mixture has too little of: rooms and landscapes as they are, single things without
# clutter that are no penguin, and as many penguins of that kind. Scenes per fold of each.
_EASIER = {"clutter": 0.0, "harsh": 0.6}
_MORE = (
    (360, scenes.Recipe("empty", desk=0.0, clutter=0.15)),
    (180, scenes.Recipe("bird", (0.2, 0.95), **_EASIER)),
    (180, scenes.Recipe("object", (0.2, 0.95), **_EASIER)),
    (360, scenes.Recipe("penguin", (0.3, 0.95), **_EASIER)),
)


def training_batches() -> list[dataset.Batch]:
    names = sources.folds(sources.load())
    batches = [dataset.Batch(fold, PER_FOLD, _SEED + i, scenes.Recipe()) for i, fold in enumerate(names)]
    for j, (count, recipe) in enumerate(_MORE):
        batches += [dataset.Batch(fold, count, _SEED + 10 * (j + 1) + i, recipe) for i, fold in enumerate(names)]
    return batches


def _held_out(name: str, top, calibration: train.Calibration, prepared: Path, build: Path, say) -> list[evaluate.Row]:
    """The table's composed rows on one fold's art, by a model and a calibration that never saw that fold."""
    batches = evaluate.cells(name, count=evaluate.CELL // 3)
    data = dataset.compose(prepared, list(batches.values()), build / f"held-out-{name}", say=say)
    features = train.lower_features(data.pixels, data.made_from, build / f"held-out-{name}" / "features.npy", say)
    logits, _ = train.outputs(top, features, np.arange(len(features)))
    margins = calibration(logits[:, 1] - logits[:, 0])
    rows, start = [], 0
    for cell, batch in batches.items():
        scores = 1 / (1 + np.exp(-margins[start : start + batch.count]))
        rows.append(evaluate.Row(cell, batch.recipe.kind == "penguin", scores))
        start += batch.count
    return rows


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def release(out: Path, build: Path, models: Path) -> None:
    """Put what ``run`` made into the places of the released files."""
    for source, target in (
        (out, models / "penguin"),
        (build / "kept", models / "weights"),
    ):
        target.mkdir(parents=True, exist_ok=True)
        for path in sorted(p for p in source.iterdir() if p.is_file()):
            shutil.copyfile(path, target / path.name)


def run(prepared: Path, build: Path, out: Path, check_against: Path, allow_different: bool, say=print) -> int:
    """Train, export and compare; 0 where the file is the released one, 1 where it is not."""
    settings = train.Settings()
    train.prepare_tensorflow(settings.seed)
    from . import export, network, rounding, savedmodel

    if _digest(network.weights_file()) != network.WEIGHTS_SHA256:
        raise OSError(f"{network.weights_file()}: not the pretrained weights that the model was made from")

    data = dataset.compose(prepared, training_batches(), build / "training", say=say)
    features = train.lower_features(data.pixels, data.made_from, build / "training" / "features.npy", say)
    before = train.pretrained_embeddings(features, data.made_from, build / "training" / "before.npy", settings)
    labels, everything = data.labels, np.arange(len(data.labels))

    def fitted(name: str, rows: np.ndarray):
        return train.fit_once(name, features, before, labels, rows, data.made_from, settings, build / "fitted", say)

    say("training on all folds")
    top = fitted("all", everything)

    # Every fold is once the one that is not trained on. What the models say
    # about folds they do not know is what calibration may look at.
    tops, logits, asked = {}, np.zeros((len(labels), 2), np.float32), np.zeros(len(labels), bool)
    for name in dict.fromkeys(data.folds.tolist()):
        say(f"training without the art of fold {name}")
        inside = data.folds == name
        tops[name] = fitted(f"without-{name}", everything[~inside][::_CALIBRATE_ON])
        unseen = everything[inside][::_CALIBRATE_ON]
        logits[unseen], _ = train.outputs(tops[name], features, unseen)
        asked[unseen] = True
        right = ((logits[unseen, 1] > logits[unseen, 0]) == (labels[unseen] == 1)).mean()
        say(f"fold {name}: {100 * right:.1f} % of its training scenes right, unseen")
    calibration = train.calibrate(logits[asked], labels[asked], _PRIOR)
    say(f"temperature {calibration.temperature:.3f}, shift {calibration.shift:.3f}")

    kept = build / "kept"
    kept.mkdir(exist_ok=True)
    folds = {}
    for name, without in tops.items():
        others = asked & (data.folds != name)
        unaware = train.calibrate(logits[others], labels[others], _PRIOR)
        folds[name] = _held_out(name, without, unaware, prepared, build, say)
    evaluate.save_held_out(folds, calibration.temperature, calibration.shift, kept / "held-out.json")
    print(
        f"\nArt of one fold, by the model that was trained without it:\n\n{evaluate.held_out_table(folds)}\n",
        flush=True,
    )

    savedmodel.rounded(train.shifted(top, calibration.shift))
    bottom, on_grid = network.lower(), network.upper(settings.dropout, settings.seed)
    network.fill(bottom, network.pretrained())
    on_grid.set_weights(top.get_weights())
    chosen = np.random.default_rng(settings.seed).choice(len(labels), _QUANTISE_ON, replace=False)
    say(f"rounding the weights on {_ROUND_ON} scenes")
    rounding.settle([bottom, on_grid], data.pixels[np.sort(chosen[:_ROUND_ON])])
    model = network.whole(bottom, on_grid, calibration.temperature)
    made = export.write(out, export.tflite(model, data.pixels[np.sort(chosen)]), VERSION)

    savedmodel.keep(top, calibration.temperature, out / "model.tflite", kept / "penguin.npz")
    savedmodel.rebuild(build / "saved_model", out / "model.tflite", kept / "penguin.npz")

    released = check_against / "model.tflite"
    expected = _digest(released) if released.exists() else "none"
    say(f"{out / 'model.tflite'}: SHA-256 {made}")
    if made == expected:
        say("byte for byte the released model")
        return 0
    say(f"NOT the released model, whose SHA-256 is {expected}")
    say("the sums of floating-point numbers come out differently on other types of processor; measure this one")
    say(f"with: python -m penguin_model evaluate --model {out}")
    return 0 if allow_different else 1
