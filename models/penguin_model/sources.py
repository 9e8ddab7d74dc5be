"""Reads ``sources.toml``: which pictures come from where, and under which licence."""

import fnmatch
import hashlib
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROLES = ("penguin", "bird", "object", "background", "photo", "painting")
TEST_FOLD = "test"
DEFAULT_FILE = Path(__file__).resolve().parent.parent / "sources.toml"


@dataclass(frozen=True)
class Take:
    """One rule: files matching ``glob`` serve as ``role``; each ``every``-th is taken."""

    role: str
    glob: str
    every: int = 1
    frame: int = 0  # side in pixels of the frames that a strip of an animation is cut into
    paper: bool = False  # drawn on white paper, which is cut away


@dataclass(frozen=True)
class Source:
    """One Debian package and what is taken from it."""

    package: str
    version: str
    sha256: str
    licence: str
    fold: str
    take: tuple[Take, ...]
    exclude: tuple[str, ...] = ()
    archive: str = "files"
    material: str = field(default="")

    def select(self, names: list[str]) -> list[tuple[str, Take]]:
        """Return the names that are taken, each with the rule that takes it.

        Rules are tried in order and the first that matches a name decides,
        so a narrow rule (penguins among the birds) stands before a wide one.
        A ``*`` matches slashes too.
        """
        taken: list[tuple[str, Take]] = []
        free = [n for n in sorted(names) if not any(fnmatch.fnmatch(n, e) for e in self.exclude)]
        for rule in self.take:
            matching = [n for n in free if fnmatch.fnmatch(n, rule.glob)]
            taken += [(n, rule) for n in matching[:: rule.every]]
            matched = set(matching)
            free = [n for n in free if n not in matched]
        return sorted(taken, key=lambda pair: pair[0])


def load(path: Path = DEFAULT_FILE) -> list[Source]:
    """Read and check the table of sources; ValueError names the entry that is wrong."""
    with open(path, "rb") as f:
        table = tomllib.load(f)
    sources = []
    for entry in table["source"]:
        rules = []
        for rule in entry.pop("take"):
            if rule["role"] not in ROLES:
                raise ValueError(f"{path}: {entry['package']}: role {rule['role']!r} is not one of {ROLES}")
            rules.append(Take(**rule))
        exclude = tuple(entry.pop("exclude", ()))
        sources.append(Source(take=tuple(rules), exclude=exclude, **entry))
    return sources


def folds(sources: list[Source]) -> list[str]:
    """Return the names of the folds that are trained on, in order of appearance."""
    return list(dict.fromkeys(s.fold for s in sources if s.fold != TEST_FOLD))


def digest(files: list[tuple[str, bytes]]) -> str:
    """SHA-256 over names and contents, independent of the order given."""
    h = hashlib.sha256()
    for name, content in sorted(files):
        h.update(name.encode() + b"\0" + hashlib.sha256(content).digest())
    return h.hexdigest()
