"""Read the tensors of a PyTorch state dict with numpy alone; nothing in the file is executed."""

import collections
import pathlib
import pickle

import numpy as np

_DTYPES = {"FloatStorage": np.float32, "HalfStorage": np.float16, "LongStorage": np.int64}


class _TensorUnpickler(pickle.Unpickler):
    """Knows tensors and ordered dictionaries; any other global is refused."""

    def __init__(self, file):
        super().__init__(file)
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda *parts: parts  # the storages follow the object in the file, so rebuild afterwards
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"refused to load {module}.{name}: only plain tensors are read")

    def persistent_load(self, saved):
        _, dtype, key, _, count, *_ = saved
        return self.storages.setdefault(key, np.empty(count, dtype))


def _rebuild(storage, offset, size, stride, *_):
    strides = [step * storage.itemsize for step in stride]
    return np.lib.stride_tricks.as_strided(storage[offset:], size, strides).copy()


def read_torch_file(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Tensors of a state dict, by name.

    Args:
      path: a `.pth` file in PyTorch's older format: magic number, protocol and system, the object, the storage
        keys, then of each storage a count and its bytes.

    Raises:
      ValueError: the file is of another format, or holds anything but tensors; the message names it.
    """
    with open(path, "rb") as file:
        try:
            for _ in range(3):
                _TensorUnpickler(file).load()
            unpickler = _TensorUnpickler(file)
            tensors = unpickler.load()
            for key in _TensorUnpickler(file).load():
                storage = unpickler.storages[key]
                count = int.from_bytes(file.read(8), "little")
                storage[:] = np.frombuffer(file.read(count * storage.itemsize), storage.dtype)
            return {name: _rebuild(*parts) for name, parts in tensors.items()}
        except Exception as error:  # a broken pickle raises nearly anything, MemoryError among it
            raise ValueError(f"{path}: not a PyTorch state dict of plain tensors ({error})") from error
