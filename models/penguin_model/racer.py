"""Reads the figures of Extreme Tux Racer, which are built from ellipsoids as those of ``figures`` are.

A ``shape.lst`` is a tree of nodes, one entry each that begins with ``*``: fields
``[name] values``; ``[order]`` lists, digit by digit, what is applied to the
space of the parent: 0 translation, 1 to 3 rotation about x to z, 4 scaling, 5 a
unit sphere in the node's material, 9 rotation about y by the third angle.
"""

import re

import numpy as np

from . import figures

_FIELD = re.compile(r"\[(\w+)\]\s*([^\[]*)")
# Degrees about z that a joint may turn from the pose at rest.
_LIMBER = {"neck": 12, "head": 12, "left_shldr": 35, "right_shldr": 35, "left_hip": 15, "right_hip": 15}


def _entries(text: str) -> list[dict[str, str]]:
    """The fields of every entry; a line without a star goes on with the one before."""
    entries: list[str] = []
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("*"):
            entries.append(line[1:])
        elif line and entries:
            entries[-1] += " " + line
    return [{name: value.strip() for name, value in _FIELD.findall(entry)} for entry in entries]


def _numbers(entry: dict[str, str], name: str) -> np.ndarray:
    return np.array([float(v) for v in entry[name].split()])


def _moved(by: np.ndarray) -> np.ndarray:
    m = np.eye(4)
    m[:3, 3] = by
    return m


def _linear(matrix: np.ndarray) -> np.ndarray:
    m = np.eye(4)
    m[:3, :3] = matrix
    return m


def _turned(axis: int, degrees: float) -> np.ndarray:
    angles = [0.0, 0.0, 0.0]
    angles[axis - 1] = degrees
    return _linear(figures.rotation(*angles))


def _ellipsoid(matrix: np.ndarray, colour: figures.Colour, gloss: float) -> figures.Part:
    """The image of the unit sphere: directions and lengths of its axes are the singular vectors and values."""
    u, radii, _ = np.linalg.svd(matrix[:3, :3])
    if np.linalg.det(u) < 0:
        u[:, 2] = -u[:, 2]
    radii = np.maximum(radii, 1e-3)
    return figures.Part(tuple(matrix[:3, 3]), tuple(radii), figures.plain(colour), figures.angles(u), gloss)


def parts(text: str, rng: np.random.Generator) -> list[figures.Part]:
    """The figure of a shape.lst in a pose, with proportions and colours that vary a little."""
    entries = _entries(text)
    colours, gloss = {}, {}
    tint = np.clip(rng.normal(1, 0.06, 3), 0.8, 1.2)
    for e in entries:
        if "material" in e:
            colours[e["mat"]] = tuple(np.clip(_numbers(e, "diff") * tint, 0, 1))
            gloss[e["mat"]] = float(_numbers(e, "spec").mean()) * 2
    form = np.diag(np.clip(rng.normal(1, 0.08, 3), 0.8, 1.25))
    spaces, found = {0: _linear(form)}, []
    for e in entries:
        if "node" not in e:
            continue
        space = spaces[int(e["par"])]
        if "joint" in e:
            limit = _LIMBER.get(e["joint"], 0)
            space = space @ _turned(3, rng.uniform(-limit, limit))
        for step in e.get("order", ""):
            if step == "0":
                space = space @ _moved(_numbers(e, "trans"))
            elif step in "123":
                space = space @ _turned(int(step), _numbers(e, "rot")[int(step) - 1])
            elif step == "4":
                space = space @ _linear(np.diag(_numbers(e, "scale")))
            elif step == "9":
                space = space @ _turned(2, _numbers(e, "rot")[2])
            elif step == "5":
                found.append(_ellipsoid(space, colours[e["mat"]], gloss[e["mat"]]))
        spaces[int(e["node"])] = space
    return found
