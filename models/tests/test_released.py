"""The files in the repository: whole, described truly, and right about the samples."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from penguin_model import evaluate, samples

MODELS = Path(__file__).resolve().parent.parent
RELEASED = MODELS / "penguin"


def manifest() -> dict[str, str]:
    """The manifest's plain values; nothing in it needs a YAML parser."""
    lines = (RELEASED / "model.yaml").read_text().splitlines()
    return dict(re.findall(r'^\s*(\w+): *"?([^"#\n]*?)"? *(?:#.*)?$', "\n".join(lines), re.M))


@pytest.fixture(scope="module")
def interpreter():
    made = Interpreter(model_path=str(RELEASED / "model.tflite"))
    made.allocate_tensors()
    return made


def test_checksums():
    lines = (RELEASED / "SHA256SUMS").read_text().split("\n")[:-1]
    assert len(lines) == 3
    for line in lines:
        want, name = line.split("  ")
        assert hashlib.sha256((RELEASED / name).read_bytes()).hexdigest() == want, name


def test_size_and_labels():
    assert (RELEASED / "model.tflite").stat().st_size < 6_000_000
    assert (RELEASED / "labels.txt").read_text() == "noPenguin\npenguin\n"


def test_input_takes_bytes_as_they_are(interpreter):
    (given,) = interpreter.get_input_details()
    assert list(given["shape"]) == [1, 224, 224, 3]
    assert given["dtype"] == np.uint8
    assert given["quantization"] == (1 / 128, 127)
    assert (manifest()["resize"], manifest()["filter"], manifest()["channels"]) == ("stretch", "bilinear", "rgb")


def test_outputs_stand_where_the_manifest_says(interpreter):
    outputs = interpreter.get_output_details()
    assert list(outputs[int(manifest()["probabilities"])]["shape"]) == [1, 2]
    assert list(outputs[int(manifest()["embedding"])]["shape"]) == [1, 1280]


def test_probabilities_sum_to_one(interpreter):
    out = interpreter.get_output_details()[int(manifest()["probabilities"])]
    scale, zero = out["quantization"]
    for seed in range(3):
        picture = np.random.default_rng(seed).integers(0, 256, (1, 224, 224, 3), np.uint8)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture)
        interpreter.invoke()
        values = (interpreter.get_tensor(out["index"])[0].astype(int) - zero) * scale
        assert abs(values.sum() - 1) <= 2 * scale


@pytest.mark.parametrize("sample", samples.SAMPLES, ids=lambda s: s.file)
def test_samples_are_told_apart(sample):
    path = MODELS / "samples" / sample.file
    assert path.stat().st_size <= 150_000
    score = evaluate.Classifier(RELEASED, threads=1).score_file(path)
    assert (score > 0.5) == sample.file.startswith("penguin"), f"probability of a penguin {score:.2f}"


def test_samples_are_listed_with_their_licence():
    listed = (MODELS / "samples" / "README.md").read_text()
    for sample in samples.SAMPLES:
        assert f"| `{sample.file}` | {sample.licence} |" in listed
    pictures = {p.name for p in (MODELS / "samples").iterdir() if p.suffix in (".jpg", ".png")}
    assert pictures == {s.file for s in samples.SAMPLES}


def test_names_in_the_file_do_not_depend_on_what_was_built_before(interpreter):
    """A layer without a name of its own gets a number from Keras, and the same weights another file."""
    layers = set()
    for tensor in interpreter.get_tensor_details():
        layers.update(re.findall(r"\b(?:lower|upper)_1/(\w+?)_1(?=[/;]|$)", tensor["name"]))
    assert len(layers) > 50
    own = r"embedding|(stem|head)(_bn|_relu)?|block\d+_(expand|depthwise|project|bn[012]|relu[01]|add)"
    assert [layer for layer in sorted(layers) if not re.fullmatch(own, layer)] == []
