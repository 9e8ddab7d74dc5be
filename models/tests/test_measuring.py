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


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_temperature_finds_by_how_much_logits_are_too_sure(true):
    rng = np.random.default_rng(1)
    margin = rng.normal(0, 2, 20_000)
    labels = (rng.random(margin.size) < 1 / (1 + np.exp(-margin))).astype(int)
    logits = np.stack([-margin, margin], 1) / 2 * true
    assert train.temperature(logits, labels) == pytest.approx(true, rel=0.06)


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
