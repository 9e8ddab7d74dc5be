"""The table of sources: what is taken, and that no fold meets another."""

import pytest

from penguin_model import samples, scenes, sources
from penguin_model.material import Picture


def source(**changes):
    fields = {
        "package": "p",
        "version": "1",
        "sha256": "",
        "licence": "",
        "fold": "a",
        "take": (
            sources.Take("penguin", "art/birds/pen*.png"),
            sources.Take("bird", "art/birds/*.png"),
            sources.Take("object", "art/*.png", every=2),
        ),
        "exclude": ("*broken*",),
    }
    return sources.Source(**{**fields, **changes})


def test_first_matching_rule_decides_and_every_takes_each_nth():
    names = [
        "art/birds/penguin.png",
        "art/birds/owl.png",
        "art/broken.png",
        "art/c.png",
        "art/a.png",
        "art/b.png",
        "doc/x.png",
    ]
    assert [(name, rule.role) for name, rule in source().select(names)] == [
        ("art/a.png", "object"),
        ("art/birds/owl.png", "bird"),
        ("art/birds/penguin.png", "penguin"),
        ("art/c.png", "object"),
    ]


def test_every_frame_that_is_passed_over_stays_out_of_wider_rules():
    rules = (sources.Take("penguin", "tux/*.png", every=2), sources.Take("object", "*.png"))
    taken = source(take=rules).select(["tux/1.png", "tux/2.png", "z.png"])
    assert [(name, rule.role) for name, rule in taken] == [("tux/1.png", "penguin"), ("z.png", "object")]


def test_digest_depends_on_names_and_contents_not_on_order():
    a = sources.digest([("x", b"1"), ("y", b"2")])
    assert a == sources.digest([("y", b"2"), ("x", b"1")])
    assert a != sources.digest([("x", b"2"), ("y", b"1")])


def test_unknown_role_is_refused(tmp_path):
    table = tmp_path / "s.toml"
    table.write_text(
        '[[source]]\npackage="p"\nversion="1"\nsha256=""\nlicence=""\nfold="a"\ntake=[{role="pengiun", glob="*"}]\n'
    )
    with pytest.raises(ValueError, match="p: role 'pengiun' is not one of"):
        sources.load(table)


def test_released_table_is_whole():
    table = sources.load()
    assert len({s.package for s in table}) == len(table)
    for s in table:
        assert len(s.sha256) == 64 and len(s.material) == 64 and s.licence, s.package
    trained = sources.folds(table)
    assert sources.TEST_FOLD not in trained and len(trained) >= 3
    for fold in [*trained, sources.TEST_FOLD]:
        roles = {t.role for s in table if s.fold == fold for t in s.take}
        assert {"penguin", "bird", "object", "background"} <= roles, fold


def test_samples_use_only_art_that_is_held_out():
    held_out = [s.package for s in sources.load() if s.fold == sources.TEST_FOLD]
    for sample in samples.SAMPLES:
        named = sample.source.split("(")[1].split(")")[0] if "(" in sample.source else "openclipart-png"
        assert named in held_out, sample.file


def test_a_stock_holds_one_fold_only():
    pixels = scenes.np.zeros((4, 4, 4), "uint8")
    pictures = [
        Picture("1", "p", "a", "penguin", pixels),
        Picture("2", "q", "b", "penguin", pixels),
        Picture("3", "p", "a", "photo", pixels),
    ]
    stock = scenes.stock(pictures, "a")
    assert [p.name for p in stock.penguin] == ["1"]
    assert not (stock.bird or stock.object or stock.background)
