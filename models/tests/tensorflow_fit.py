"""Fitting itself, on a tiny set: needs TensorFlow, so ``scripts/test-tensorflow`` runs it and not pytest."""

import tempfile
import unittest
from dataclasses import replace
from pathlib import Path

import numpy as np

from penguin_model import network, train

COUNT = 24
SETTINGS = train.Settings(epochs=2, batch=8, dropout=0.0)


def divergence(before: np.ndarray, after: np.ndarray, softness: float) -> np.ndarray:
    """What ``train.strayed`` is to give, in numpy."""
    kernel, bias = network.imagenet_classes()

    def probabilities(embedding):
        e = np.exp((embedding @ kernel + bias).astype(np.float64) / softness)
        return e / e.sum(-1, keepdims=True)

    p, q = probabilities(before), probabilities(after)
    return softness**2 * (p * np.log(p / q)).sum(-1)


class Fit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        train.prepare_tensorflow(SETTINGS.seed)
        rng = np.random.default_rng(1)
        pixels = rng.integers(0, 120, (COUNT, network.SIZE, network.SIZE, 3), np.uint8)
        cls.labels = (np.arange(COUNT) % 3 == 0).astype(np.int64)
        pixels[cls.labels == 1, 60:160, 60:160] = (250, 160, 20)
        cls.folder = tempfile.TemporaryDirectory()
        folder = Path(cls.folder.name)
        cls.features = train.lower_features(pixels, "tiny", folder / "features.npy")
        cls.before = train.pretrained_embeddings(cls.features, "tiny", folder / "before.npy", SETTINGS)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def fit(self, settings):
        return train.fit(self.features, self.before, self.labels, np.arange(COUNT), settings, lambda text: None)

    def answers(self, top):
        return train.outputs(top, self.features, np.arange(COUNT))

    def test_what_was_computed_once_is_read_again(self):
        out = Path(self.folder.name) / "features.npy"
        written = out.stat().st_mtime_ns
        again = train.lower_features(np.zeros((COUNT, 1)), "tiny", out)  # these pixels would fail
        np.testing.assert_array_equal(again, self.features)
        self.assertEqual(out.stat().st_mtime_ns, written)

    def test_it_learns_and_gives_the_same_weights_twice(self):
        first, second = self.fit(SETTINGS), self.fit(SETTINGS)
        for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        logits, _ = self.answers(first)
        np.testing.assert_array_equal(logits.argmax(1), self.labels)

    def test_the_embedding_strays_less_the_more_that_counts(self):
        was = self.before.astype(np.float32)
        strayed = []
        for keep in (0.0, 20.0):
            _, embedding = self.answers(self.fit(replace(SETTINGS, keep=keep, rate=1e-3, epochs=3)))
            found = np.asarray(train.strayed(was, embedding, SETTINGS.softness))
            np.testing.assert_allclose(found, divergence(was, embedding, SETTINGS.softness), rtol=1e-3, atol=1e-4)
            strayed.append(found.mean())
        self.assertLess(strayed[1], strayed[0] / 2)
        np.testing.assert_allclose(train.strayed(was, was, SETTINGS.softness), 0, atol=1e-5)


if __name__ == "__main__":
    unittest.main()
