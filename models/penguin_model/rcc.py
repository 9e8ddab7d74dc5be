"""Reads Qt resource files (``.rcc``), the form in which GCompris ships its pictures.

Layout as written by Qt's own ``rcc`` tool (``qtbase/src/tools/rcc/rcc.cpp``):
a header with the offsets of tree, data and names, all numbers big-endian.
"""

import struct
import zlib

_COMPRESSED_ZLIB = 0x01
_DIRECTORY = 0x02
_COMPRESSED_ZSTD = 0x04


def read(blob: bytes) -> dict[str, bytes]:
    """Return path -> content of every file; entries in Zstandard form are left out."""
    if blob[:4] != b"qres":
        raise ValueError("not a Qt resource file: it does not start with 'qres'")
    version, tree, data, names = struct.unpack_from(">IIII", blob, 4)
    node_size = 14 if version < 2 else 22
    files: dict[str, bytes] = {}

    def name_at(offset: int) -> str:
        (length,) = struct.unpack_from(">H", blob, names + offset)
        start = names + offset + 6
        return blob[start : start + 2 * length].decode("utf-16-be")

    def walk(index: int, prefix: str) -> None:
        node = tree + index * node_size
        name_offset, flags = struct.unpack_from(">IH", blob, node)
        path = prefix + "/" + name_at(name_offset) if index else ""
        if flags & _DIRECTORY:
            count, first = struct.unpack_from(">II", blob, node + 6)
            for child in range(first, first + count):
                walk(child, path)
            return
        (offset,) = struct.unpack_from(">I", blob, node + 10)
        (length,) = struct.unpack_from(">I", blob, data + offset)
        content = blob[data + offset + 4 : data + offset + 4 + length]
        if flags & _COMPRESSED_ZSTD:
            return
        if flags & _COMPRESSED_ZLIB:
            content = zlib.decompress(content[4:])
        files[path.lstrip("/")] = content

    walk(0, "")
    return files
