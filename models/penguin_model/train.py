"""Fits the upper half of the network on composed scenes, and calibrates it on folds it has not seen."""

import hashlib
import inspect
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

# Results must not depend on how many processors a machine happens to have.
THREADS = 2


@dataclass(frozen=True)
class Settings:
    """What decides the outcome besides the material."""

    seed: int = 20261122
    epochs: int = 4
    batch: int = 32
    rate: float = 3e-4
    decay: float = 1e-2
    smoothing: float = 0.05
    dropout: float = 0.3
    # How much it counts that the embedding goes on telling ImageNet's classes apart as it did.
    keep: float = 0.04
    softness: float = 2.0  # the temperature at which these classes are compared


def prepare_tensorflow(seed: int) -> None:
    """Fix seeds, threads and the order of sums; call before anything else of TensorFlow."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(seed)


def _stamp(*parts: str, made_by=None) -> str:
    """What a result on disk was made from; the code that made it included: all of this module, or one function."""
    from . import network

    code = [inspect.getsource(made) for made in (network, made_by or sys.modules[__name__])]
    return hashlib.sha256("\0".join([*parts, *code]).encode()).hexdigest()


def _kept(stamp: str, out: Path, shape: tuple[int, ...], parts) -> np.ndarray:
    """float16 numbers on disk, made from ``parts`` (rows after rows) unless they were made with the same stamp."""
    done = out.with_suffix(".stamp")
    if not done.exists() or done.read_text() != stamp:
        done.unlink(missing_ok=True)
        numbers, i = np.lib.format.open_memmap(out, "w+", np.float16, shape), 0
        for part in parts:
            numbers[i : i + len(part)] = part
            i += len(part)
        numbers.flush()
        done.write_text(stamp)
    return np.load(out, mmap_mode="r")


def lower_features(pixels: np.ndarray, made_from: str, out: Path, say=print) -> np.ndarray:
    """Outputs of the frozen half for all scenes, kept on disk as float16.

    ``made_from`` names the scenes; the features of the same scenes are read, not made again.
    """
    from . import network

    def parts(step=50):
        bottom = network.lower()
        network.fill(bottom, network.pretrained())
        for i in range(0, len(pixels), step):
            yield bottom(network.normalise(np.asarray(pixels[i : i + step])), training=False).numpy()
            if (i // step + 1) % 20 == 0:
                say(f"features of {i + step} of {len(pixels)} scenes")

    return _kept(_stamp(made_from, made_by=lower_features), out, (len(pixels), *network.FEATURES), parts())


def pretrained_embeddings(features: np.ndarray, made_from: str, out: Path, settings: Settings) -> np.ndarray:
    """What the pretrained network says of all scenes before anything is fitted, kept on disk as ``lower_features``."""
    from . import network

    def parts(step=1600):
        top = network.upper(settings.dropout, settings.seed)
        network.fill(top, network.pretrained())
        for i in range(0, len(features), step):
            yield outputs(top, features, np.arange(i, min(i + step, len(features))))[1]

    stamp = _stamp(made_from, made_by=pretrained_embeddings)
    return _kept(stamp, out, (len(features), network.EMBEDDING), parts())


def outputs(top, features: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(logits, embedding) of the given rows."""
    import tensorflow as tf

    @tf.function(reduce_retracing=True)
    def forward(x):
        return top(x, training=False)

    logits, embeddings = [], []
    for i in range(0, len(rows), 64):
        out = forward(tf.constant(features[rows[i : i + 64]].astype(np.float32)))
        logits.append(out["logits"].numpy())
        embeddings.append(out["embedding"].numpy())
    return np.concatenate(logits), np.concatenate(embeddings)


def start(before: np.ndarray, labels: np.ndarray, rows: np.ndarray, settings: Settings):
    """The pretrained upper half with a head that separates the given rows as well as it can.

    ``before``: the pretrained embeddings of all rows.
    """
    import keras
    from sklearn.linear_model import LogisticRegression

    from . import network

    keras.utils.set_random_seed(settings.seed)
    top = network.upper(settings.dropout, settings.seed)
    network.fill(top, network.pretrained())
    some = (
        rows if len(rows) <= 4000 else np.sort(np.random.default_rng(settings.seed).choice(rows, 4000, replace=False))
    )
    found = LogisticRegression(C=0.02, max_iter=400).fit(before[some].astype(np.float32), labels[some])
    w, b = found.coef_[0] / 2, found.intercept_[0] / 2
    top.get_layer("logits").set_weights([np.stack([-w, w], 1).astype(np.float32), np.array([-b, b], np.float32)])
    return top


def strayed(before, embedding, softness: float):
    """How far the embedding has come from what it said of ImageNet's classes; one number a row, none below 0.

    The divergence of the pretrained classifier's answers at a temperature, as
    in Li and Hoiem 2016, "Learning without forgetting". What the network knew
    of photographs is held by what it still has to know.
    """
    import tensorflow as tf

    from . import network

    kernel, bias = network.imagenet_classes()
    was, now = (tf.nn.log_softmax((e @ kernel + bias) / softness) for e in (before, embedding))
    return softness**2 * tf.reduce_sum(tf.exp(was) * (was - now), -1)


def fit(features: np.ndarray, before: np.ndarray, labels: np.ndarray, rows: np.ndarray, settings: Settings, say=print):
    """Train an upper half on the given rows and return it. ``before``: the pretrained embeddings of all rows."""
    import keras
    import tensorflow as tf

    # A head that already separates what the pretrained network sees: the first
    # steps then improve the features and do not wreck them.
    top = start(before, labels, rows, settings)

    steps = settings.epochs * (len(rows) // settings.batch)
    schedule = keras.optimizers.schedules.CosineDecay(settings.rate, steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.decay)
    loss_of = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.smoothing)
    optimizer.build(top.trainable_variables)

    @tf.function(reduce_retracing=True)
    def step(x, y, was):
        with tf.GradientTape() as tape:
            out = top(x, training=True)
            loss = loss_of(y, out["logits"])
            total = loss + settings.keep * tf.reduce_mean(strayed(was, out["embedding"], settings.softness))
        gradients = tape.gradient(total, top.trainable_variables)
        optimizer.apply_gradients(zip(gradients, top.trainable_variables, strict=True))
        return loss

    rng = np.random.default_rng(settings.seed)
    for epoch in range(settings.epochs):
        order = rng.permutation(rows)
        losses = []
        for i in range(len(order) // settings.batch):
            batch = order[i * settings.batch : (i + 1) * settings.batch]
            x = tf.constant(features[batch].astype(np.float32))
            y = tf.constant(np.eye(2, dtype=np.float32)[labels[batch]])
            losses.append(float(step(x, y, tf.constant(before[batch].astype(np.float32)))))
        say(f"epoch {epoch + 1} of {settings.epochs}: loss {np.mean(losses):.4f}")
    return top


def fit_once(
    name: str,
    features: np.ndarray,
    before: np.ndarray,
    labels: np.ndarray,
    rows: np.ndarray,
    made_from: str,
    settings: Settings,
    folder: Path,
    say=print,
):
    """``fit``, or the weights of an earlier run that fitted the same: a run that was ended goes on."""
    from . import network

    folder.mkdir(parents=True, exist_ok=True)
    weights, done = folder / f"{name}.weights.h5", folder / f"{name}.stamp"
    stamp = _stamp(made_from, repr(settings), hashlib.sha256(rows.tobytes()).hexdigest())
    if done.exists() and done.read_text() == stamp:
        top = network.upper(settings.dropout, settings.seed)
        top.load_weights(weights)
        return top
    done.unlink(missing_ok=True)
    top = fit(features, before, labels, rows, settings, say)
    top.save_weights(weights)
    done.write_text(stamp)
    return top


@dataclass(frozen=True)
class Calibration:
    """Makes log-odds of a network's: (margin + shift) / temperature."""

    temperature: float
    shift: float

    def __call__(self, margins: np.ndarray) -> np.ndarray:
        return (margins + self.shift) / self.temperature


def calibrate(logits: np.ndarray, labels: np.ndarray, prior: float) -> Calibration:
    """The temperature and the shift that make the labels likeliest (Platt 1999; Guo et al. 2017).

    The shift is there because a network is more cautious about art that it has not seen, and
    for the share of pictures with a penguin that is to be expected, ``prior``, where the
    labels have another (Saerens et al. 2002).
    """
    margin = (logits[:, 1] - logits[:, 0]).astype(np.float64)
    inputs = np.stack([margin, np.ones_like(margin)], 1)
    weights = np.zeros(2)  # slope and intercept of the log-odds
    for _ in range(25):  # Newton's method; a handful of steps is enough
        p = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (p - labels)
        weights -= np.linalg.solve((inputs.T * (p * (1 - p))) @ inputs, gradient)
    slope, intercept = (float(w) for w in weights)
    odds = [p / (1 - p) for p in (prior, float(labels.mean()))]
    intercept += float(np.log(odds[0] / odds[1]))
    return Calibration(1 / slope, intercept / slope)


def shifted(top, by: float):
    """Add ``by`` to the margin that the head gives."""
    head = top.get_layer("logits")
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias + np.array([-by / 2, by / 2], np.float32)])
    return top
