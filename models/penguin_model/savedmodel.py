"""The released model as a TensorFlow SavedModel, without training it again.

Training keeps what it learned as half-precision numbers in
``models/weights/penguin.npz``, and goes on with those rounded ones. With the
pretrained weights of the lower half, which are in the installed package, they
make the floating-point model that the released 8-bit file was converted from,
in seconds. Command line: ``python -m penguin_model.savedmodel [--out FOLDER]``.
"""

import argparse
import hashlib
import os
import sys
import zipfile
from pathlib import Path

import numpy as np

MODELS = Path(__file__).resolve().parent.parent
WEIGHTS = MODELS / "weights" / "penguin.npz"
RELEASED = MODELS / "penguin" / "model.tflite"
_TEMPERATURE, _BELONGS_TO = "temperature", "model.tflite"

MANIFEST = """\
# The folder is a TensorFlow SavedModel and a model folder of tuxwatch, for
# "runtime: savedmodel" on a workstation.
name: penguin
version: "{version}"
licence: Apache-2.0
description: Tells whether a penguin is in the picture; the floating-point model that the 8-bit one was made from.
model: .
labels: labels.txt

input:
  resize: stretch
  filter: bilinear
  channels: rgb
  mean: 127 # the model takes (byte - 127) / 128
  std: 128

output: # numbers of the outputs, in the alphabetical order of their names
  activation: none # softmax is in the model
  probabilities: 1
  embedding: 0
"""


class WeightsError(Exception):
    """The kept weights cannot be used."""


def _learned(layers) -> list:
    """The layers whose weights training changes: batch normalisation keeps its pretrained ones."""
    return [layer for layer in layers if layer.weights and not hasattr(layer, "moving_mean")]


def rounded(top) -> None:
    """Round what was trained to the half precision in which it is kept."""
    for layer in _learned(top.layers):
        layer.set_weights([value.astype(np.float16).astype(np.float32) for value in layer.get_weights()])


def keep(top, temperature: float, tflite: Path = RELEASED, path: Path = WEIGHTS) -> None:
    """Write what was trained, and which released file was made from it."""
    arrays = {
        _TEMPERATURE: np.float64(temperature),
        _BELONGS_TO: np.array(hashlib.sha256(tflite.read_bytes()).hexdigest()),
    }
    for layer in _learned(top.layers):
        for i, value in enumerate(layer.get_weights()):
            arrays[f"{layer.name}.{i}"] = value.astype(np.float16)
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)


def restore(top, tflite: Path = RELEASED, path: Path = WEIGHTS) -> float:
    """Put kept weights into an upper half and return the temperature.

    WeightsError where they are missing, damaged or those of another released file.
    """
    remedy = "train the model again (models/run make) and keep its weights"
    try:
        with np.load(path, allow_pickle=False) as kept:
            arrays = {name: kept[name] for name in kept.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as err:
        raise WeightsError(f"{path}: cannot be read ({err}); {remedy}") from err
    released = hashlib.sha256(tflite.read_bytes()).hexdigest()
    belongs_to = str(arrays.get(_BELONGS_TO))
    if belongs_to != released:
        raise WeightsError(
            f"{path}: the weights of the model with SHA-256 {belongs_to}, but {tflite} is {released}; {remedy}"
        )
    for layer in _learned(top.layers):
        shapes = [np.shape(value) for value in layer.get_weights()]
        names = [f"{layer.name}.{i}" for i in range(len(shapes))]
        if any(name not in arrays or arrays[name].shape != shape for name, shape in zip(names, shapes, strict=True)):
            raise WeightsError(f"{path}: does not fit the network's layer {layer.name}; {remedy}")
        layer.set_weights([arrays[name].astype(np.float32) for name in names])
    return float(arrays[_TEMPERATURE])


def model(tflite: Path = RELEASED, path: Path = WEIGHTS):
    """The floating-point model that the released file was converted from. WeightsError as ``restore``."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from . import network

    top = network.upper(dropout=0, seed=0)
    network.fill(top, network.pretrained())
    temperature = restore(top, tflite, path)
    bottom = network.lower()
    network.fill(bottom, network.pretrained())
    return network.whole(bottom, top, temperature)


def write(model, out: Path, version: str) -> None:
    """Export the model that ``network.whole`` made, as a folder for TensorFlow and for tuxwatch."""
    from . import network

    model.export(out, verbose=False)
    (out / "labels.txt").write_text("\n".join(network.LABELS) + "\n")
    (out / "model.yaml").write_text(MANIFEST.format(version=version))


def _stamp(tflite: Path, path: Path) -> str:
    parts = [file.read_bytes() for file in (tflite, path, Path(__file__), Path(__file__).with_name("network.py"))]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def rebuild(out: Path, tflite: Path = RELEASED, path: Path = WEIGHTS) -> bool:
    """Write the released model's SavedModel; False where ``out`` has it already."""
    done = out / "made-from.sha256"
    if path.exists() and done.exists() and done.read_text() == _stamp(tflite, path):
        return False
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from . import make

    write(model(tflite, path), out, make.VERSION)
    done.write_text(_stamp(tflite, path))
    return True


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m penguin_model.savedmodel", description="Writes the released model as a TensorFlow SavedModel."
    )
    parser.add_argument(
        "--out", type=Path, default=Path("build/model/saved_model"), help="the SavedModel's folder (%(default)s)"
    )
    args = parser.parse_args(argv)
    try:
        made = rebuild(args.out)
    except (WeightsError, OSError) as err:
        print(f"penguin_model.savedmodel: {err}", file=sys.stderr)
        return 1
    print(f"{args.out}: {'made' if made else 'up to date'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
