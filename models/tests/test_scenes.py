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


def tall(role, height):
    return Picture(f"{role}-{height}", "p", "a", role, np.full((height, height // 2, 4), 255, np.uint8))


def test_what_has_few_pixels_is_not_blown_up():
    small, large = tall("penguin", 40), tall("penguin", 200)
    assert scenes.sharp_at([small, large], 99) == [small, large]
    assert scenes.sharp_at([small, large], 101) == [large]
    assert scenes.sharp_at([small], 300) == [small]  # better blown up than none


def test_a_scene_shows_the_picture_that_has_the_pixels():
    coarse, fine = art("penguin", (255, 0, 0)), art("penguin", (0, 0, 255))
    fine = Picture("fine", "p", "a", "penguin", fine.pixels.repeat(5, 0).repeat(5, 1))
    stock = scenes.stock([coarse, fine], "a")
    recipe = scenes.Recipe("penguin", (0.7, 0.8), rendered=0, clutter=0, desk=1, harsh=0, dyed=0)

    def coloured(channel, i):
        pixels = scenes.compose((11, i), stock, recipe)[0].astype(int)
        return (pixels[..., channel] - pixels.sum(-1) / 3 > 60).mean() > 0.05

    assert sum(coloured(2, i) for i in range(10)) >= 9
    assert not any(coloured(0, i) for i in range(10))


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


def test_a_drawn_figure_has_flat_colours():
    rng = np.random.default_rng(3)
    parts = figures.penguin(rng)

    def colours(drawn):
        picture = figures.render(parts, np.random.default_rng(5), 96, drawn)
        return len(np.unique(picture[picture[..., 3] > 0][:, :3], axis=0)), picture[..., 3]

    (shaded, seen), (flat, seen_flat) = colours(0.0), colours(1.0)
    assert flat < 40 < shaded
    np.testing.assert_array_equal(seen, seen_flat)


def test_round_penguins_have_a_belly_and_a_bill():
    rng = np.random.default_rng(4)
    orange = (0.98, 0.75, 0.1)
    for _ in range(20):
        parts = figures.round_penguin(rng, (0.1, 0.5, 0.2), (0.9, 0.9, 0.9), orange)
        front = np.array([[0.0, -0.5, np.sqrt(0.75)], [0.0, 0.99, np.sqrt(1 - 0.99**2)]])
        below, above = parts[0].paint(front)
        np.testing.assert_allclose(below, (0.9, 0.9, 0.9))
        np.testing.assert_allclose(above, (0.1, 0.5, 0.2))
        painted = [p for p in parts if np.allclose(p.paint(front), orange)]
        bill = max(painted, key=lambda p: p.centre[1])
        assert len(painted) == 3 and bill.centre[0] == 0 and bill.centre[2] > 0.3


def test_round_things_that_are_no_penguin_have_no_yellow_bill_on_black():
    rng = np.random.default_rng(4)
    at = np.array([[0.0, 1.0, 0.0]])
    for _ in range(200):
        parts = figures.round_thing(rng)
        if tuple(parts[0].paint(at)[0]) in figures.BLACKS:
            assert not any(p.centre[0] == 0 and tuple(p.paint(at)[0]) in figures.YELLOWS for p in parts[1:])
