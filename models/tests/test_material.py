"""Fetching and preparing, on small packages made here."""

import hashlib
import io
import json
import shutil
import struct
import subprocess

import numpy as np
import pytest
from PIL import Image

from penguin_model import fetch, figures, material, racer, rcc, sources


def test_cutout_is_trimmed_and_shrunk():
    picture = Image.new("RGBA", (900, 700), (0, 0, 0, 0))
    picture.paste((10, 200, 30, 255), (100, 50, 740, 450))
    small = material.cutout(picture)
    assert small.size == (320, 200)
    assert small.getpixel((0, 0))[:3] == (10, 200, 30)
    assert material.cutout(Image.new("RGBA", (50, 50), (9, 9, 9, 0))) is None


def test_black_silhouettes_are_told_from_penguins():
    picture = Image.new("RGBA", (60, 60), (5, 5, 5, 255))
    assert material.is_silhouette(picture)
    picture.paste((240, 240, 240, 255), (20, 20, 40, 50))
    assert not material.is_silhouette(picture)


def test_code_points():
    assert material.code_points("1f400-1f402 2615") == [0x1F400, 0x1F401, 0x1F402, 0x2615]


def test_frames_of_a_strip_without_the_nearly_empty_ones():
    strip = Image.new("RGBA", (96, 32), (0, 0, 0, 0))
    strip.paste((200, 30, 40, 255), (4, 2, 24, 32))  # the second is empty, the third a speck
    strip.paste((200, 30, 40, 255), (70, 4, 74, 8))
    (only,) = material.frames(strip, 32)
    assert only.size == (128, 128)
    assert only.getpixel((60, 60)) == (200, 30, 40, 255)
    assert only.getpixel((120, 60))[3] == 0


def test_paper_is_cut_away_and_white_inside_stays():
    picture = Image.new("RGB", (60, 60), (252, 253, 252))
    picture.paste((10, 10, 10), (10, 10, 50, 50))
    picture.paste((255, 255, 255), (20, 20, 40, 40))
    cut = material.without_paper(picture)
    assert cut.getpixel((0, 0))[3] == 0
    assert cut.getpixel((10, 10)) == (10, 10, 10, 255)
    assert cut.getpixel((30, 30)) == (255, 255, 255, 255)


SHAPE = """# a ball on a ball, and one beside that turns about a joint
*[material] 1 [mat] black [diff] 0.1 0.1 0.1 [spec] 0.5 0.5 0.5 [exp] 20
*[material] 1 [mat] red [diff] 0.9 0.1 0.1 [spec] 0.2 0.2 0.2 [exp] 20
*[node] 1 [par] 00 [order] 45 [scale] 1 2 1 [vis] 10 [mat] black [name] body
*[node] 2 [par] 1 [order] 045 [trans] 0 1 0
  [scale] 0.5 0.25 0.5 [vis] 10 [mat] red [name] head
*[node] 3 [par] 0 [joint] left_shldr [name] joint
*[node] 4 [par] 3 [order] 0345 [trans] 2 0 0 [rot] 0 0 90 [scale] 1 0.1 0.1 [vis] 5 [mat] red [name] arm
"""


class Middling:
    """A generator that always gives the middle of what it is asked for."""

    def normal(self, mean, _, size):
        return np.full(size, float(mean))

    def uniform(self, low, high):
        return (low + high) / 2


def test_shapes_are_placed_scaled_and_turned_in_the_space_of_their_parents():
    body, head, arm = racer.parts(SHAPE, Middling())
    assert sorted(body.radii) == pytest.approx([1, 1, 2])
    # In the body's space, which is twice as tall: on top of it, and itself stretched.
    assert head.centre == pytest.approx((0, 2, 0))
    assert sorted(head.radii) == pytest.approx([0.5, 0.5, 0.5])
    assert arm.centre == pytest.approx((2, 0, 0))
    longest = figures.rotation(*arm.turn)[:, int(np.argmax(arm.radii))]
    assert np.abs(longest) == pytest.approx([0, 1, 0], abs=1e-6)
    assert tuple(head.paint(np.zeros((1, 3)))[0]) == pytest.approx((0.9, 0.1, 0.1))


def test_angles_give_the_rotation_back_also_where_two_axes_meet():
    for degrees in ((10, 20, 30), (-170, 60, 100), (40, 90, 25), (40, -90, 25), (0, 0, 0)):
        turned = figures.rotation(*degrees)
        assert figures.rotation(*figures.angles(turned)) == pytest.approx(turned, abs=1e-6)


def test_poses_and_proportions_differ_with_the_seed_alone():
    a, b, c = (racer.parts(SHAPE, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert [p.centre for p in a] == [p.centre for p in b]
    assert [p.centre for p in a] != [p.centre for p in c]


def resource(name: str, content: bytes, flags: int) -> bytes:
    """A Qt resource file of version 1 with one file in its root."""
    root = struct.pack(">IHII", 0, 0x02, 1, 1)
    node = struct.pack(">IHHHI", 0, flags, 0, 0, 0)
    tree = root + node
    data = struct.pack(">I", len(content)) + content
    names = struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
    header = b"qres" + struct.pack(">IIII", 1, 20, 20 + len(tree), 20 + len(tree) + len(data))
    return header + tree + data + names


def test_resource_files_plain_and_compressed():
    import zlib

    assert rcc.read(resource("ä.webp", b"picture", 0)) == {"ä.webp": b"picture"}
    packed = struct.pack(">I", 7) + zlib.compress(b"picture")
    assert rcc.read(resource("a.png", packed, 1)) == {"a.png": b"picture"}
    with pytest.raises(ValueError, match="not a Qt resource file"):
        rcc.read(b"PK\x03\x04")


@pytest.fixture
def package(tmp_path):
    """A Debian package with one picture in a cache, and the entry that describes it."""
    assert shutil.which("dpkg-deb"), "dpkg-deb is needed, as for making the model"
    root = tmp_path / "root"
    art = root / "usr/share/art"
    art.mkdir(parents=True)
    picture = Image.new("RGBA", (80, 80), (0, 0, 0, 0))
    picture.paste((20, 20, 20, 255), (10, 10, 70, 70))
    picture.paste((250, 250, 250, 255), (25, 25, 50, 60))
    picture.save(art / "tux.png")
    (art / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        "Package: art\nVersion: 1:2-3\nArchitecture: all\nMaintainer: t <t@example.org>\nDescription: t\n"
    )
    cache = tmp_path / "cache"
    (cache / "deb").mkdir(parents=True)
    deb = cache / "deb" / "art_1%3a2-3_all.deb"
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-Zgzip", "-b", str(root), str(deb)], check=True, capture_output=True
    )
    files = [
        ("usr/share/art/tux.png", (art / "tux.png").read_bytes()),
        ("usr/share/art/broken.png", (art / "broken.png").read_bytes()),
    ]
    return cache, sources.Source(
        package="art",
        version="1:2-3",
        sha256=hashlib.sha256(deb.read_bytes()).hexdigest(),
        licence="CC0-1.0",
        fold="a",
        take=(sources.Take("penguin", "usr/share/art/*.png"),),
        material=sources.digest(files),
    )


def test_prepare_reads_the_cached_package_once(package, tmp_path):
    cache, source = package
    out = material.prepare([source], cache, tmp_path / "out", say=lambda _: None)
    (picture,) = material.load(out)
    assert (picture.role, picture.fold, picture.package) == ("penguin", "a", "art")
    assert picture.pixels.shape == (60, 60, 4)
    shutil.rmtree(cache)  # a second run needs neither the cache nor the network
    material.prepare([source], cache, tmp_path / "out", say=lambda _: None)


@pytest.mark.parametrize("rule", [{"frame": 32}, {"paper": True}])
def test_broken_pictures_are_left_out_of_strips_and_paper_too(rule):
    broken = b"\x89PNG\r\n\x1a\nnothing"
    source = sources.Source("art", "1", "", "CC0-1.0", "a", (sources.Take("penguin", "*", **rule),))
    assert material._pictures(source, "a.png", source.take[0], broken) == []
    whole = io.BytesIO()
    Image.new("RGB", (64, 64), (9, 9, 9)).save(whole, "PNG")
    cut_short = whole.getvalue()[:-30]
    assert material._pictures(source, "a.png", source.take[0], cut_short) == []


def test_other_art_under_the_same_name_is_refused(package, tmp_path):
    cache, source = package
    changed = sources.Source(**{**source.__dict__, "material": "0" * 64})
    with pytest.raises(material.MaterialError, match=f'art: found material = "{source.material}"'):
        material.prepare([changed], cache, tmp_path / "out", say=lambda _: None)
    assert not (tmp_path / "out" / "index.json").exists()


def test_a_damaged_download_is_not_used(package, monkeypatch):
    cache, source = package
    deb = next((cache / "deb").iterdir())
    deb.write_bytes(deb.read_bytes()[:-1])
    asked = []

    def offline(spec, folder):
        asked.append(spec)
        return subprocess.CompletedProcess([], 100, "", "E: Unable to fetch")

    monkeypatch.setattr(fetch, "_download", offline)
    with pytest.raises(fetch.FetchError, match=r"Unable to fetch.*apt-get update"):
        fetch.package_file(source, cache, say=lambda _: None)
    assert asked == ["art=1:2-3", "art"]
    assert not deb.exists()


def test_a_superseded_version_is_replaced_by_the_one_on_offer(package, monkeypatch):
    cache, source = package
    deb = next((cache / "deb").iterdir())
    content = deb.read_bytes()
    deb.unlink()

    def mirror(spec, folder):
        if "=" in spec:
            return subprocess.CompletedProcess([], 100, "", "E: Version not found")
        (folder / "art_1%3a2-4_all.deb").write_bytes(content)
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(fetch, "_download", mirror)
    assert fetch.package_file(source, cache, say=lambda _: None).name == "art_1%3a2-4_all.deb"


def test_index_is_readable(package, tmp_path):
    cache, source = package
    out = material.prepare([source], cache, tmp_path / "out", say=lambda _: None)
    assert len(json.loads((out / "index.json").read_text())["pictures"]) == 1
    assert np.asarray(Image.open(out / "art/0000.png")).shape == (60, 60, 4)
