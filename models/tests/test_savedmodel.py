"""Keeping trained weights, on layers that stand in for Keras's."""

import hashlib

import numpy as np
import pytest

from penguin_model import savedmodel


class Layer:
    def __init__(self, name, *weights):
        self.name, self.weights = name, list(weights)

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = list(weights)


class Norm(Layer):
    moving_mean = 0


class Network:
    def __init__(self, value):
        self.layers = [
            Layer("relu"),
            Layer("head", np.full((2, 3), value, np.float32), np.full(3, value, np.float32)),
            Norm("norm", np.full(3, value, np.float32)),
        ]


@pytest.fixture
def released(tmp_path):
    file = tmp_path / "model.tflite"
    file.write_bytes(b"a model")
    return file


def test_weights_come_back(tmp_path, released):
    path = tmp_path / "weights" / "w.npz"
    savedmodel.keep(Network(1.5), 1.25, released, path)
    other = Network(0)
    assert savedmodel.restore(other, released, path) == 1.25
    _, head, norm = other.layers
    assert [w.dtype for w in head.weights] == [np.float32, np.float32]
    assert all((w == 1.5).all() for w in head.weights)
    assert (norm.weights[0] == 0).all(), "batch normalisation is not trained"


def test_same_weights_same_file(tmp_path, released):
    for name in ("a.npz", "b.npz"):
        savedmodel.keep(Network(1.5), 1.25, released, tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_weights_of_another_model(tmp_path, released):
    savedmodel.keep(Network(1), 1, released, tmp_path / "w.npz")
    released.write_bytes(b"another model")
    with pytest.raises(savedmodel.WeightsError, match="train the model again"):
        savedmodel.restore(Network(0), released, tmp_path / "w.npz")


def test_weights_of_another_shape(tmp_path, released):
    narrow = Network(1)
    narrow.layers[1] = Layer("head", np.ones((2, 2), np.float32), np.ones(2, np.float32))
    savedmodel.keep(narrow, 1, released, tmp_path / "w.npz")
    with pytest.raises(savedmodel.WeightsError, match="head"):
        savedmodel.restore(Network(0), released, tmp_path / "w.npz")


@pytest.mark.parametrize("content", [None, b"", b"not numbers"])
def test_unreadable_weights(tmp_path, released, content):
    if content is not None:
        (tmp_path / "w.npz").write_bytes(content)
    with pytest.raises(savedmodel.WeightsError, match="cannot be read"):
        savedmodel.restore(Network(0), released, tmp_path / "w.npz")


def test_released_weights_are_those_of_the_released_model():
    with np.load(savedmodel.WEIGHTS, allow_pickle=False) as kept:
        belongs_to = str(kept["model.tflite"])
    assert belongs_to == hashlib.sha256(savedmodel.RELEASED.read_bytes()).hexdigest()


def test_rounded_weights_are_those_that_are_kept(tmp_path, released):
    network = Network(1 / 3)
    savedmodel.rounded(network)
    assert network.layers[1].weights[0][0, 0] == np.float32(np.float16(1 / 3))
    assert network.layers[2].weights[0][0] == np.float32(1 / 3), "batch normalisation is not trained"
    savedmodel.keep(network, 1, released, tmp_path / "w.npz")
    other = Network(0)
    savedmodel.restore(other, released, tmp_path / "w.npz")
    np.testing.assert_array_equal(other.layers[1].weights[0], network.layers[1].weights[0])
