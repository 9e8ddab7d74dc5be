"""Reads the tensors of a legacy PyTorch file without PyTorch.

Before its zip form, ``torch.save`` wrote a row of pickles (magic number,
protocol, system, the object, the storages' keys) followed by the storages'
raw numbers. Unpickling runs code that the file names, so only the three names
that a table of tensors needs are allowed here; anything else is refused.
"""

import collections
import pickle
import struct
from pathlib import Path

import numpy as np

_MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {
    "FloatStorage": np.dtype("<f4"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "HalfStorage": np.dtype("<f2"),
}


class _Tensor:
    """A tensor whose numbers come later in the file."""

    def __init__(self, storage, offset, size, stride, *_unused):
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride


class _Unpickler(pickle.Unpickler):
    def __init__(self, file):
        super().__init__(file)
        self.storages: dict[str, np.dtype] = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"the file asks for {module}.{name}, which a table of tensors does not need")

    def persistent_load(self, pid):
        kind, dtype, key, _location, _count, *_view = pid
        if kind != "storage":
            raise pickle.UnpicklingError(f"the file refers to a {kind!r}, which a table of tensors does not need")
        self.storages[key] = dtype
        return key


def load(path: Path) -> dict[str, np.ndarray]:
    """Return name -> array. pickle.UnpicklingError where the file is something else."""
    with open(path, "rb") as f:
        if _Unpickler(f).load() != _MAGIC:
            raise pickle.UnpicklingError(f"{path}: not a file of the form that torch.save wrote before version 1.6")
        _Unpickler(f).load()  # protocol version
        _Unpickler(f).load()  # sizes of C types on the machine that wrote it
        unpickler = _Unpickler(f)
        table = unpickler.load()
        keys = _Unpickler(f).load()
        numbers = {}
        for key in keys:
            dtype = unpickler.storages[key]
            (count,) = struct.unpack("<q", f.read(8))
            raw = f.read(count * dtype.itemsize)
            if len(raw) != count * dtype.itemsize:
                raise pickle.UnpicklingError(f"{path}: ends in the middle of a tensor")
            numbers[key] = np.frombuffer(raw, dtype)
    arrays = {}
    for name, t in table.items():
        base = numbers[t.storage][t.offset :]
        strides = [s * base.itemsize for s in t.stride]
        arrays[name] = np.lib.stride_tricks.as_strided(base, t.size, strides).copy()
    return arrays
