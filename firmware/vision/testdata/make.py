#!/usr/bin/env python3
"""Makes everything else in this folder: tiny models, pictures, golden answers.

    python3 -m venv venv
    venv/bin/pip install tensorflow-cpu==2.21.0 ai-edge-litert==2.3.0 pillow==13.0.0
    venv/bin/python firmware/vision/testdata/make.py

The models have random weights from a fixed seed: they classify nothing, but
differ in shape, types and exporter, and their answers are known to the last
bit. golden.json holds what Python's LiteRT interpreter and Pillow made of the
same bytes; the Go tests hold firmware/vision against it.
"""

import json
import os
import pathlib

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageDraw

HERE = pathlib.Path(__file__).resolve().parent


# --- models -----------------------------------------------------------------


def network(height, width, classes, seed, activation="softmax", embedding=False):
    """A convolution, global pooling, a dense layer."""
    rng = np.random.default_rng(seed)
    inputs = tf.keras.Input((height, width, 3), name="image")
    x = tf.keras.layers.Conv2D(6, 3, strides=2, padding="same", activation="relu6", name="stem")(inputs)
    x = tf.keras.layers.AveragePooling2D(4, name="pool")(x)
    x = tf.keras.layers.Flatten(name="features")(x)
    features = x
    x = tf.keras.layers.Dense(classes, name="logits")(x)
    if activation:
        x = tf.keras.layers.Activation(activation, name="probabilities")(x)
    model = tf.keras.Model(inputs, [features, x] if embedding else x)
    for layer in model.layers:
        shapes = [w.shape for w in layer.get_weights()]
        if shapes:
            layer.set_weights([rng.normal(0, 1.2 / np.sqrt(max(1, np.prod(s[:-1]))), s) for s in shapes])
    return model


def representative(height, width):
    def data():
        rng = np.random.default_rng(7)
        extremes = np.full((1, height, width, 3), -127 / 128, np.float32)
        extremes[0, 0, 0] = 1.0
        yield [extremes]
        for _ in range(32):
            picture = rng.integers(0, 256, (1, height // 4, width // 4, 3)).repeat(4, 1).repeat(4, 2)
            yield [((picture - 127.0) / 128.0).astype(np.float32)]

    return data


def convert(converter, kind=None, shape=None):
    if kind is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = representative(*shape)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = kind
        converter.inference_output_type = kind
    return converter.convert()


def models():
    # As Keras exports: any batch, float, a signature; not square; three classes.
    keras = network(24, 32, 3, seed=1)
    yield (
        "float3",
        convert(tf.lite.TFLiteConverter.from_keras_model(keras)),
        ["cat", "dog", "penguin"],
    )

    # As the penguin model: uint8 in and out, raw bytes, any batch; and a second output.
    keras = network(32, 32, 2, seed=2, embedding=True)
    yield (
        "uint8",
        convert(tf.lite.TFLiteConverter.from_keras_model(keras), tf.uint8, (32, 32)),
        ["noPenguin", "penguin"],
    )

    # As older exporters: int8, a fixed batch, no signature, no softmax.
    keras = network(16, 16, 4, seed=3, activation=None)
    function = tf.function(lambda image: keras(image)).get_concrete_function(tf.TensorSpec((1, 16, 16, 3), tf.float32))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    yield (
        "int8",
        convert(converter, tf.int8, (16, 16)),
        ["north", "east", "south", "west"],
    )


def pattern(detail):
    """The same numbers as the Go test makes: a different value at every place."""
    count = int(np.prod(detail["shape"]))
    values = (np.arange(count) * 37 + np.arange(count) // 29 * 11) % 256
    if detail["dtype"] == np.float32:
        values = values / np.float32(127.5) - 1
    elif detail["dtype"] == np.int8:
        values = values - 128
    return values.astype(detail["dtype"]).reshape(detail["shape"])


def run(model, tensor=None):
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    detail = interpreter.get_input_details()[0]
    interpreter.set_tensor(detail["index"], pattern(detail) if tensor is None else tensor(detail))
    interpreter.invoke()
    outputs = []
    for out in interpreter.get_output_details():
        scale, zero = out["quantization"]
        outputs.append(
            {
                "name": out["name"],
                "shape": [int(d) for d in out["shape"]],
                "type": np.dtype(out["dtype"]).name,
                "scale": float(scale),
                "zero_point": int(zero),
                "data": [float(v) for v in interpreter.get_tensor(out["index"]).flatten()],
            }
        )
    scale, zero = detail["quantization"]
    described = {
        "name": detail["name"],
        "shape": [int(d) for d in detail["shape"]],
        "type": np.dtype(detail["dtype"]).name,
        "scale": float(scale),
        "zero_point": int(zero),
    }
    return {"input": described, "outputs": outputs}


# --- pictures ---------------------------------------------------------------


def scene(width=160, height=100):
    """A picture with no symmetry, edges of every direction, and colour."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    pixels = np.stack(
        [
            40 + 200 * x / width,
            128 + 90 * np.sin(x / 9 + y / 17),
            230 - 200 * y / height + 20 * np.cos(x * y / 300),
        ],
        -1,
    )
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((10, 8, 60, 40), fill=(250, 30, 20))
    draw.ellipse((80, 20, 150, 95), fill=(10, 10, 10), outline=(255, 255, 255), width=4)
    draw.polygon([(20, 95), (70, 95), (45, 55)], fill=(240, 240, 60))
    draw.line((0, 99, 159, 0), fill=(0, 200, 255), width=2)
    return picture


TRANSPOSED = {  # how a camera held so would have stored the scene
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def pictures():
    rgb = scene()
    odd = scene(149, 83)
    for name, sampling in (("444", 0), ("422", 1), ("420", 2)):
        yield f"jpeg-{name}.jpg", rgb, {"quality": 92, "subsampling": sampling}
    yield "jpeg-odd.jpg", odd, {"quality": 85, "subsampling": 2, "optimize": True}
    yield "jpeg-progressive.jpg", rgb, {"quality": 90, "progressive": True}
    yield (
        "jpeg-restart.jpg",
        rgb,
        {"quality": 90, "subsampling": 2, "restart_marker_blocks": 3},
    )
    yield "jpeg-gray.jpg", rgb.convert("L"), {"quality": 90}
    yield "jpeg-cmyk.jpg", rgb.convert("CMYK"), {"quality": 90}
    for orientation in range(1, 9):
        stored = rgb.transpose(TRANSPOSED[orientation]) if orientation > 1 else rgb
        exif = Image.Exif()
        exif[0x010F] = "maker"
        exif[0x0112] = orientation
        yield (
            f"exif-{orientation}.jpg",
            stored,
            {"quality": 90, "subsampling": 0, "exif": exif},
        )
    yield "png-rgb.png", odd, {}
    yield "png-gray.png", rgb.convert("L"), {}
    yield "png-1bit.png", rgb.convert("1"), {}
    yield "png-palette.png", rgb.quantize(16), {}
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.fromarray(np.tile(np.linspace(0, 255, 160).astype(np.uint8), (100, 1))))
    yield "png-alpha.png", alpha, {}
    deep = Image.fromarray(np.asarray(rgb.convert("L")).astype(np.uint16) * 257)
    yield "png-gray16.png", deep, {}
    exif = Image.Exif()
    exif[0x0112] = 6
    yield "png-exif6.png", rgb.transpose(TRANSPOSED[6]), {"exif": exif}


def upright(path):
    """What the Go side is to see: turned upright, over white, in RGB."""
    picture = Image.open(path)
    orientation = picture.getexif().get(0x0112, 1)
    undo = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    if undo > 1:
        picture = picture.transpose(TRANSPOSED[undo])
    if picture.mode == "I;16":
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    return picture.convert("RGB")


FILTERS = {
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def resized(picture, policy, width, height, kernel):
    if policy == "stretch":
        return picture.resize((width, height), kernel)
    if policy == "crop":
        scale = max(width / picture.width, height / picture.height)
    else:
        scale = min(width / picture.width, height / picture.height)
    w, h = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = picture.resize((w, h), kernel)
    if policy == "crop":
        left, top = (w - width) // 2, (h - height) // 2
        return small.crop((left, top, left + width, top + height))
    canvas = Image.new("RGB", (width, height))
    canvas.paste(small, ((width - w) // 2, (height - h) // 2))
    return canvas


# --- writing ----------------------------------------------------------------


def main():
    golden = {"models": {}, "pictures": [], "resize": [], "classify": []}
    made = {}
    for name, model, labels in models():
        folder = HERE / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.tflite").write_bytes(model)
        (folder / "labels.txt").write_text("\n".join(labels) + "\n")
        golden["models"][name] = run(model)
        made[name] = model

    folder = HERE / "pictures"
    folder.mkdir(exist_ok=True)
    (HERE / "golden").mkdir(exist_ok=True)
    for name, picture, options in pictures():
        picture.save(folder / name, **options)
        stem = name.replace(".", "-")
        small = resized(upright(folder / name), "stretch", 60, 40, Image.Resampling.BILINEAR)
        small.save(HERE / "golden" / f"{stem}.png", optimize=True)
        golden["pictures"].append({"file": name, "golden": f"{stem}.png"})

    source = upright(folder / "png-rgb.png")
    cases = [("stretch", 48, 32, f) for f in FILTERS]
    cases += [
        ("stretch", 300, 200, "bilinear"),
        ("crop", 40, 40, "bilinear"),
        ("crop", 20, 60, "bilinear"),
    ]
    cases += [("letterbox", 40, 40, "bilinear"), ("letterbox", 20, 60, "bicubic")]
    for policy, width, height, kernel in cases:
        name = f"resize-{policy}-{kernel}-{width}x{height}.png"
        resized(source, policy, width, height, FILTERS[kernel]).save(HERE / "golden" / name, optimize=True)
        golden["resize"].append({"policy": policy, "filter": kernel, "golden": name})

    # From a picture's bytes to probabilities, each model by its own conventions.
    def prepare(name):
        def tensor(detail):
            _, height, width, _ = detail["shape"]
            pixels = np.asarray(source.resize((width, height), Image.Resampling.BILINEAR)).astype(np.float32)
            if detail["dtype"] == np.float32:
                pixels = pixels / np.float32(127.5) - 1
            elif detail["dtype"] == np.int8:
                pixels = pixels - 128
            return pixels.astype(detail["dtype"])[np.newaxis]

        return run(made[name], tensor)["outputs"]

    for name in made:
        values = prepare(name)
        golden["classify"].append({"model": name, "file": "png-rgb.png", "outputs": values})

    (HERE / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
