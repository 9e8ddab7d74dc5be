"""Brings the Debian packages that the pictures are taken from.

Nothing is installed and no privileges are needed: ``apt-get download`` puts a
package into the cache folder and ``dpkg-deb`` unpacks it there. The machine's
own package sources decide where it comes from.

A pinned version may have left the mirror by the time someone rebuilds the
model. Then the version on offer is taken, and ``material`` compares the files
that are used with the recorded digest, so a rebuilt package with the same art
passes and one with other art does not.
"""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from .sources import Source


class FetchError(Exception):
    """A package could not be had; the message says which and what to do."""


def cache_folder() -> Path:
    """Where downloads are kept between runs and between checkouts."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tuxwatch"


def deb_name(package: str, version: str, arch: str = "*") -> str:
    """The file name ``apt-get download`` gives: a colon in the version is quoted."""
    return f"{package}_{version.replace(':', '%3a')}_{arch}.deb"


def sha256_of(path: Path) -> str:
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _download(spec: str, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run(["apt-get", "download", "-q", spec], cwd=folder, capture_output=True, text=True, check=False)


def package_file(source: Source, cache: Path, say=print) -> Path:
    """Return the path of the package's file, downloading it where it is not cached."""
    folder = cache / "deb"
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.glob(deb_name(source.package, source.version))):
        if sha256_of(path) == source.sha256:
            return path
        say(f"{path.name}: damaged or another build than the pinned one; downloading it again")
        path.unlink()
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        raise FetchError(
            "apt-get and dpkg-deb are needed to fetch the model's material: run this on Debian or Ubuntu, "
            f"or put {deb_name(source.package, source.version)} into {folder}"
        )
    say(f"downloading {source.package} {source.version}")
    first = _download(f"{source.package}={source.version}", folder)
    found = sorted(folder.glob(deb_name(source.package, source.version)))
    if first.returncode == 0 and found:
        if sha256_of(found[0]) != source.sha256:
            say(f"{found[0].name}: not byte for byte the pinned package; its files are checked one by one")
        return found[0]
    say(f"{source.package} {source.version} is not on offer any more; taking the version that is")
    before = set(folder.iterdir())
    second = _download(source.package, folder)
    new = sorted(set(folder.iterdir()) - before) or sorted(folder.glob(f"{source.package}_*.deb"))
    if second.returncode == 0 and new:
        return new[-1]
    raise FetchError(
        f"cannot download {source.package} {source.version}, nor any other version: "
        f"{(second.stderr or first.stderr).strip() or 'apt-get gave no reason'}. "
        f"Run 'apt-get update' as root, or put the package's file into {folder}"
    )


def unpack(deb: Path, cache: Path) -> Path:
    """Unpack a package beside the others and return the folder; done once per file."""
    target = cache / "unpacked" / deb.stem
    if target.is_dir():
        return target
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    done = subprocess.run(["dpkg-deb", "-x", str(deb), str(partial)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FetchError(f"cannot unpack {deb}: {done.stderr.strip()}. Delete the file and try again")
    partial.rename(target)
    return target
