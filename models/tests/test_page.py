"""The performance page, drawn by the program that users have."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penguin_model import evaluate, page, samples
from penguin_model.__main__ import main

MODELS = Path(__file__).resolve().parent.parent


@pytest.fixture
def rows():
    """The samples, as rows of pictures with a penguin and without."""
    made = []
    for penguin in (True, False):
        files = [s.file for s in samples.SAMPLES if s.file.startswith("penguin") == penguin]
        pictures = np.stack([evaluate.opened(MODELS / "samples" / f) for f in files])
        made.append(evaluate.Row("with/out" if penguin else "without", penguin, np.zeros(len(files)), pictures))
    return made


def test_pictures_are_written_as_the_model_saw_them(tmp_path, rows):
    positive, negative = page.write_pictures(rows, tmp_path / "pictures")
    assert len(list(positive.iterdir())) == len(rows[0].pictures)
    assert len(list(negative.iterdir())) == len(rows[1].pictures)
    np.testing.assert_array_equal(np.asarray(Image.open(positive / "with-out 1.png")), rows[0].pictures[0])
    # What an earlier run wrote is not measured again.
    page.write_pictures(rows[1:], tmp_path / "pictures")
    assert list(positive.iterdir()) == []


def test_program_gets_the_folders_and_draws(tmp_path, rows):
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\nfor last; do :; done\necho "$*" > "$last"\n')
    program.chmod(0o755)
    out = tmp_path / "new folder" / "page.html"
    page.write(rows, MODELS / "penguin", tmp_path / "pictures", out, program)
    pictures = tmp_path / "pictures"
    assert out.read_text().split()[:3] == ["evaluate", "--model", str(MODELS / "penguin")]
    assert f"--positive {pictures / 'penguin'} --negative {pictures / 'noPenguin'} --html {out}" in out.read_text()


def test_page_of_the_released_model(tmp_path, rows):
    """Where 'make build' was run, as it is in 'make test': the real program draws the real page."""
    if not page.PROGRAM.exists():
        pytest.skip("NOT RUN: build/bin/tuxwatch draws the page; run 'make build' first")
    out = tmp_path / "page.html"
    page.write(rows, MODELS / "penguin", tmp_path / "pictures", out)
    text = out.read_text()
    for want in ("Confusion matrix", "Precision and recall", "Do the probabilities mean", "data:image/jpeg;base64,"):
        assert want in text
    penguins, others = (len(r.pictures) for r in rows)
    assert f"of {penguins} pictures of penguin and {others} of noPenguin" in text


def test_why_there_is_no_page(tmp_path, rows, capsys):
    with pytest.raises(page.PageError, match="make build"):
        page.write(rows, MODELS / "penguin", tmp_path / "p", tmp_path / "page.html", tmp_path / "nothing")
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no library >&2; exit 1\n")
    broken.chmod(0o755)
    with pytest.raises(page.PageError, match="no library"):
        page.write(rows, MODELS / "penguin", tmp_path / "p", tmp_path / "page.html", broken)
    # Only pictures without: nothing to draw a curve of; a line, not a traceback.
    arguments = ["--negative", str(MODELS / "samples"), "--html", str(tmp_path / "page.html")]
    assert main(["--build", str(tmp_path), "evaluate", *arguments]) == 1
    assert "with a penguin and pictures without" in capsys.readouterr().err
