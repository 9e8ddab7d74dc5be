"""Composing in bulk, calibration, and the table of results."""

import json

import numpy as np
import pytest
from PIL import Image

from penguin_model import dataset, evaluate, scenes, train
from penguin_model.__main__ import main


@pytest.fixture
def prepared(tmp_path):
    """A prepared folder with one thing and one background in fold a."""
    folder = tmp_path / "material"
    folder.mkdir()
    thing = Image.new("RGBA", (30, 60), (200, 30, 30, 255))
    thing.save(folder / "0.png")
    Image.new("RGB", (300, 200), (30, 90, 30)).save(folder / "1.png")
    rows = [["0.png", "penguin.png", "p", "a", "penguin"], ["1.png", "back.png", "p", "a", "background"]]
    (folder / "index.json").write_text(json.dumps({"stamp": "s", "pictures": rows}))
    return folder


def test_scenes_do_not_depend_on_the_number_of_processes(prepared, tmp_path):
    batches = [dataset.Batch("a", 5, 1), dataset.Batch("a", 3, 2, scenes.Recipe("empty"))]
    one = dataset.compose(prepared, batches, tmp_path / "one", processes=1, say=lambda _: None)
    two = dataset.compose(prepared, batches, tmp_path / "two", processes=2, say=lambda _: None)
    np.testing.assert_array_equal(one.pixels, two.pixels)
    assert list(one.kinds) == list(two.kinds) and list(one.kinds[5:]) == ["empty"] * 3
    assert list(one.labels) == [int(k == "penguin") for k in one.kinds]
    # Made once: the second time they are read, also when the workers could not start.
    again = dataset.compose(prepared, batches, tmp_path / "one", processes=-1, say=lambda _: None)
    np.testing.assert_array_equal(one.pixels, again.pixels)


@pytest.mark.parametrize(("temperature", "shift"), [(0.5, 0.0), (1.0, 0.7), (2.5, -1.5)])
def test_calibration_finds_by_how_much_logits_are_too_sure_and_too_cautious(temperature, shift):
    rng = np.random.default_rng(1)
    truth = rng.normal(0, 2, 20_000)  # log-odds
    labels = (rng.random(truth.size) < 1 / (1 + np.exp(-truth))).astype(int)
    margin = truth * temperature - shift
    found = train.calibrate(np.stack([-margin, margin], 1) / 2, labels, labels.mean())
    assert found.temperature == pytest.approx(temperature, rel=0.06)
    assert found.shift == pytest.approx(shift, abs=0.1 * temperature)
    np.testing.assert_allclose(found(margin), truth, atol=0.4)


def test_calibration_is_to_the_share_of_penguins_that_is_expected():
    rng = np.random.default_rng(2)
    labels = (np.arange(20_000) % 2).astype(int)
    margin = rng.normal(np.where(labels == 1, 1, -1), 1.5)
    logits = np.stack([-margin, margin], 1) / 2
    even, third = (train.calibrate(logits, labels, prior)(margin) for prior in (0.5, 1 / 3))
    np.testing.assert_allclose(third, even - np.log(2), atol=1e-6)
    # Among pictures of which one in three has a penguin, the probabilities are then right on average.
    some = np.concatenate([np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)[::2]])
    assert (1 / (1 + np.exp(-third[some]))).mean() == pytest.approx(1 / 3, abs=0.01)


class _Head:
    """As much of a network as its last layer."""

    def __init__(self):
        self.weights = [np.ones((3, 2), np.float32), np.array([0.25, 0.5], np.float32)]

    def get_layer(self, name):
        assert name == "logits"
        return self

    def get_weights(self):
        return self.weights

    def set_weights(self, weights):
        self.weights = weights


def test_the_shift_goes_into_the_head():
    head = train.shifted(_Head(), 0.5)
    np.testing.assert_array_equal(head.weights[0], np.ones((3, 2)))
    np.testing.assert_allclose(head.weights[1], [0.0, 0.75])


def test_the_table_counts_both_classes():
    rows = [
        evaluate.Row("with", True, np.array([0.9, 0.2, 0.6])),
        evaluate.Row("without", False, np.array([0.1, 0.5])),
        evaluate.Row("nothing", False, np.array([])),
    ]
    assert [r.right for r in rows] == [2, 2, 0]
    table = evaluate.table(rows)
    assert "| with | 3 | 2 (66.7 %) | 0.57 |" in table
    assert "| without | 2 | 2 (100.0 %) | 0.30 |" in table
    assert "nothing" not in table


def test_calibration_counts_what_was_there():
    rows = [
        evaluate.Row("with", True, np.array([0.95, 1.0, 0.6])),
        evaluate.Row("without", False, np.array([0.05, 0.6])),
    ]
    table = evaluate.calibration(rows)
    assert "| 0.0 to 0.1 | 1 | 0 % |" in table
    assert "| 0.5 to 0.7 | 2 | 50 % |" in table
    assert "| 0.9 to 1.0 | 2 | 100 % |" in table


def test_every_cell_is_measured_on_the_fold_that_was_asked_for():
    for name, batch in evaluate.cells("somewhere", 7).items():
        assert (batch.fold, batch.count) == ("somewhere", 7), name
        assert (batch.recipe.kind == "penguin") == ("penguin" in name), name


def test_a_folder_with_broken_pictures_gives_a_line_each(tmp_path, capsys):
    folder = tmp_path / "odd ones\nand more"
    folder.mkdir()
    Image.new("RGB", (40, 30), (90, 120, 90)).save(folder / "grey wall.png")
    Image.new("CMYK", (64, 48)).save(folder / "cmyk.jpg")
    Image.new("I;16", (64, 48)).save(folder / "sixteen.png")
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "film.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(64))
    assert main(["evaluate", "--negative", str(folder), "--json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("left out" in line for line in lines) == 2
    result = json.loads(lines[-1])
    assert (result["penguin"], result["number"]) == (False, 3)


def rows_with(share):
    """The cells with so many of ten right, and photographs all right."""
    rows = []
    for name, batch in evaluate.cells("a", 10).items():
        penguin = batch.recipe.kind == "penguin"
        right = np.arange(10) < share.get(name, 10)
        rows.append(evaluate.Row(name, penguin, np.where(right == penguin, 0.9, 0.1)))
    return rows


def test_balanced_is_the_mean_over_both_kinds():
    assert evaluate.balanced(rows_with({})) == 100
    # Two of three rows of large penguins at a half, one of three without at nothing.
    share = {"penguin, 50%-95% of the height": 5, "penguin, 30%-50% of the height": 5, evaluate.BIRDS: 0}
    assert evaluate.balanced(rows_with(share)) == pytest.approx((200 / 3 + 200 / 3) / 2)
    # Small penguins and clutter are other rows.
    assert evaluate.balanced(rows_with({"penguin, 12%-20% of the height": 0, "birds and objects anywhere": 0})) == 100


def test_what_was_held_out_comes_back(tmp_path):
    folds = {"a": rows_with({evaluate.BIRDS: 5}), "b": rows_with({})}
    evaluate.save_held_out(folds, 1.5, 0.2, tmp_path / "held-out.json")
    again = evaluate.load_held_out(tmp_path / "held-out.json")
    table = evaluate.held_out_table(again)
    assert table == evaluate.held_out_table(folds)
    assert f"| {evaluate.BIRDS} | 50 | 100 |" in table
    assert "| 91.7 | 100.0 |" in table and "Mean of the balanced figures 95.8 %, least 91.7 %." in table


def test_bars_say_what_is_reached():
    photographs = evaluate.Row(evaluate.PHOTOGRAPHS, False, np.where(np.arange(300) < 3, 0.9, 0.1))
    own = [evaluate.Row("desk", True, np.array([0.9, 0.4]))]
    same = np.array([0.9] * 99 + [0.2])
    comparison = evaluate.Comparison(same, np.array([0.9] * 99 + [0.7]), np.full(100, True))
    folds = {"a": rows_with({evaluate.BIRDS: 5}), "b": rows_with({})}
    text = evaluate.bars([*rows_with({evaluate.OBJECTS: 9}), photographs], folds, comparison, own, 6_000_001)
    lines = dict(line.strip("| ").split(" | ", 1) for line in text.splitlines()[2:])
    assert lines["photographs in desk"] == "all right | 1 of 2 | NO"
    assert lines["art held out, balanced, mean of the folds"] == "93 % or more | 95.8 % | yes"
    assert lines["art held out, balanced, worst fold"] == "88 % or more | 91.7 % (a) | yes"
    assert lines["false alarms, bird on an empty desk"] == "5 % or less | 0.0 % | yes"
    assert lines["false alarms, object on an empty desk"] == "5 % or less | 10.0 % | NO"
    assert lines[f"false alarms, {evaluate.PHOTOGRAPHS}"] == "1 % or less of 300 or more | 3 of 300 | yes"
    assert lines["8 bits, equal decisions"] == "99 % or more | 99.0 % | yes"
    assert lines["8 bits, points lost"] == "0.5 or less | 1.0 | NO"
    assert lines["size of the file"].endswith("NO")
    # Fewer than 300 photographs prove nothing, however few false alarms.
    few = evaluate.Row(evaluate.PHOTOGRAPHS, False, np.full(299, 0.1))
    assert "0 of 299 | NO" in evaluate.bars([few], {}, None, [], 1)
