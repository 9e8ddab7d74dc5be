"""Writes the released files: quantised TensorFlow Lite model, labels, manifest, checksums."""

import hashlib
from pathlib import Path

import numpy as np

MANIFEST = """\
# What a program needs to know to run this model. README.md in the folder above
# is the model card.
name: penguin
version: "{version}"
licence: Apache-2.0
description: Tells whether a penguin is in the picture, a toy or a drawn one above all.
model: model.tflite
labels: labels.txt

input: # 224×224×3 bytes; their quantisation (1/128, 127) is the scaling (byte - 127) / 128 of training
  resize: stretch # the whole picture, EXIF orientation applied, without keeping the aspect ratio
  filter: bilinear # the triangle filter that widens when shrinking: Pillow's BILINEAR
  channels: rgb

output: # numbers of the model's outputs
  activation: none # softmax is in the model
  probabilities: {probabilities} # one value per label; they sum to 1
  embedding: {embedding} # {width} pooled features, for building other classifiers on
"""


def tflite(model, pictures: np.ndarray) -> bytes:
    """Full-integer conversion, calibrated on ``pictures`` (N×224×224×3, bytes); uint8 in and out."""
    import tensorflow as tf

    from . import network

    # One picture with the lowest and the highest byte pins the input's
    # quantisation to exactly (1/128, 127), so camera bytes go in untouched.
    extremes = np.zeros((1, network.SIZE, network.SIZE, 3), np.uint8)
    extremes[:, ::2] = 255

    def representative():
        for picture in np.concatenate([extremes, pictures]):
            yield [network.normalise(picture[None])]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = representative
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.uint8
    converter.inference_output_type = tf.uint8
    return converter.convert()


def check(blob: bytes) -> dict[str, int]:
    """Return the outputs' indexes; ValueError where the model is not what the manifest promises."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=blob)
    (given,) = interpreter.get_input_details()
    if list(given["shape"]) != [1, 224, 224, 3] or given["dtype"] != np.uint8:
        raise ValueError(f"the model's input is {given['shape']} {given['dtype']}, not 1×224×224×3 bytes")
    if given["quantization"] != (1 / 128, 127):
        raise ValueError(f"the input's quantisation is {given['quantization']}, not (1/128, 127)")
    indexes = {}
    for i, out in enumerate(interpreter.get_output_details()):
        indexes["probabilities" if out["shape"][-1] == 2 else "embedding"] = i
    return indexes


def write(folder: Path, blob: bytes, version: str) -> str:
    """Write the model's folder and return the SHA-256 of the model's file."""
    from . import network

    indexes = check(blob)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.tflite").write_bytes(blob)
    (folder / "labels.txt").write_text("\n".join(network.LABELS) + "\n")
    (folder / "model.yaml").write_text(MANIFEST.format(version=version, width=network.EMBEDDING, **indexes))
    lines = []
    for name in ("model.tflite", "labels.txt", "model.yaml"):
        lines.append(f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n")
    (folder / "SHA256SUMS").write_text("".join(lines))
    return hashlib.sha256(blob).hexdigest()
