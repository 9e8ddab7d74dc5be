"""The reader of PyTorch's legacy files, on files made here in that form."""

import collections
import pickle
import struct
import sys
import types

import numpy as np
import pytest

from penguin_model import torch_pickle


class Storage:
    def __init__(self, key, array):
        self.key, self.array = key, array


class Reduced:
    """Pickles as a call, the way a tensor does."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.fixture
def torch(monkeypatch):
    """Just enough of PyTorch's names for pickle to refer to them."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2(*_):
        raise AssertionError("only referred to, never called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})
    torch._utils = utils
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", utils)
    return torch


def write(path, torch, table, storages, magic=torch_pickle._MAGIC, cut=0):
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, Storage):
                return ("storage", torch.FloatStorage, obj.key, "cpu", obj.array.size, None)
            return None

    with open(path, "wb") as f:
        for header in (magic, 1001, {"little_endian": True}):
            pickle.dump(header, f, 2)
        Pickler(f, 2).dump(table)
        pickle.dump([s.key for s in storages], f, 2)
        for s in storages:
            f.write(struct.pack("<q", s.array.size) + s.array.astype("<f4").tobytes())
        if cut:
            f.truncate(f.tell() - cut)


def tensor(torch, storage, offset, size, stride):
    return Reduced(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, collections.OrderedDict())


def test_reads_tensors_with_offset_and_stride(tmp_path, torch):
    numbers = Storage("k", np.arange(12, dtype=np.float32))
    table = collections.OrderedDict(
        whole=tensor(torch, numbers, 0, (3, 4), (4, 1)), turned=tensor(torch, numbers, 4, (4, 2), (1, 4))
    )
    write(tmp_path / "m.pth", torch, table, [numbers])
    got = torch_pickle.load(tmp_path / "m.pth")
    assert list(got) == ["whole", "turned"]
    np.testing.assert_array_equal(got["whole"], np.arange(12).reshape(3, 4))
    np.testing.assert_array_equal(got["turned"], [[4, 8], [5, 9], [6, 10], [7, 11]])


def test_refuses_code(tmp_path, torch):
    evil = tmp_path / "made-by-the-pickle"
    write(tmp_path / "m.pth", torch, {"x": Reduced(open, str(evil), "w")}, [])
    with pytest.raises(pickle.UnpicklingError, match="open"):
        torch_pickle.load(tmp_path / "m.pth")
    assert not evil.exists()


def test_refuses_other_files_and_truncated_ones(tmp_path, torch):
    numbers = Storage("k", np.arange(4, dtype=np.float32))
    table = {"x": tensor(torch, numbers, 0, (4,), (1,))}
    write(tmp_path / "other.pth", torch, table, [numbers], magic=7)
    with pytest.raises(pickle.UnpicklingError, match="not a file of the form"):
        torch_pickle.load(tmp_path / "other.pth")
    write(tmp_path / "short.pth", torch, table, [numbers], cut=3)
    with pytest.raises(pickle.UnpicklingError, match="middle of a tensor"):
        torch_pickle.load(tmp_path / "short.pth")
