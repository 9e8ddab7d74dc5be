"""Composing: the same seed gives the same bytes, and each kind is what it says."""

import numpy as np
import pytest
from PIL import Image

from penguin_model import figures, scenes
from penguin_model.material import Picture


def art(role, colour, fold="a"):
    pixels = np.zeros((60, 40, 4), np.uint8)
    pixels[5:55, 5:35] = (*colour, 255)
    return Picture(role, "p", fold, role, pixels)


@pytest.fixture
def stock():
    back = Picture("b", "p", "a", "background", np.random.default_rng(1).integers(0, 255, (150, 200, 3), np.uint8))
    return scenes.stock([art("penguin", (0, 0, 255)), art("bird", (255, 0, 0)), art("object", (0, 255, 0)), back], "a")


def test_same_seed_same_bytes(stock):
    for i in range(12):
        first, kind = scenes.compose((5, i), stock, scenes.Recipe())
        again, kind_again = scenes.compose((5, i), stock, scenes.Recipe())
        assert kind == kind_again
        np.testing.assert_array_equal(first, again)
        assert first.shape == (224, 224, 3) and first.dtype == np.uint8
    other, _ = scenes.compose((6, 0), stock, scenes.Recipe())
    assert not np.array_equal(other, scenes.compose((5, 0), stock, scenes.Recipe())[0])


def test_the_mixture_holds_all_kinds(stock):
    kinds = [scenes.pick_kind(np.random.default_rng([1, i])) for i in range(400)]
    assert set(kinds) == set(scenes.KINDS)
    assert 160 < kinds.count("penguin") < 240


@pytest.mark.parametrize("kind, channel", [("penguin", 2), ("bird", 0)])
def test_the_thing_of_the_kind_is_in_the_scene(stock, kind, channel):
    recipe = scenes.Recipe(kind, (0.6, 0.8), rendered=0, clutter=0, desk=1, harsh=0)
    empty = scenes.Recipe("empty", rendered=0, clutter=0, desk=1, harsh=0)

    def strongest(recipe, i):
        pixels = scenes.compose((9, i), stock, recipe)[0].astype(int)
        return (pixels[..., channel] - pixels.sum(-1) / 3 > 60).mean()

    found = [strongest(recipe, i) > 0.05 for i in range(10)]
    assert sum(found) >= 9
    assert np.mean([strongest(recipe, i) for i in range(10)]) > 3 * np.mean([strongest(empty, i) for i in range(10)])


def test_stretch_is_pillows_bilinear_over_the_whole_picture():
    wide = np.zeros((90, 160, 3), np.uint8)
    wide[:, :80] = (200, 100, 50)
    out = scenes.stretch(Image.fromarray(wide))
    assert out.shape == (224, 224, 3)
    np.testing.assert_array_equal(out[:, :110], np.broadcast_to((200, 100, 50), (224, 110, 3)))
    np.testing.assert_array_equal(out[:, 114:], 0)


@pytest.mark.parametrize("make", [figures.penguin, figures.other])
def test_figures_come_out_the_same_and_are_seen(make):
    def draw(seed):
        rng = np.random.default_rng(seed)
        return figures.render(make(rng), rng, 64)

    for seed in range(8):
        picture = draw(seed)
        np.testing.assert_array_equal(picture, draw(seed))
        assert 0.05 < (picture[..., 3] > 0).mean() < 1
    assert not np.array_equal(draw(1), draw(2))
