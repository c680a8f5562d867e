"""Builds an ONNX graph node by node, and names its weights by their paths in the tree of parameters."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

OPSET, IR_VERSION = 18, 8  # of ONNX 1.13, the first with an antialiased Resize

Value = Any  # a name of the graph's, an array, a float, an int, or a list of ints


class Graph:
    """A graph under construction.

    `graph("Add", x, 1.0)` adds a node and returns the name of its output. Arguments that are no names become constants:
    a float is a float32 scalar, an int or a list of ints is int64, None is an omitted input.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._tensors: dict[str, onnx.TensorProto] = {}
        self._constants: dict[tuple, str] = {}
        self._count = 0

    def __call__(self, kind: str, *inputs: Value, name: str | None = None, **attributes: Any) -> str:
        """Add a node of the operator `kind`; `name`: of its output, by default a number."""
        self._count += name is None
        output = name or f"{kind}_{self._count}"
        names = ["" if value is None else self._name(value) for value in inputs]
        self.nodes.append(helper.make_node(kind, names, [output], name=output, **attributes))
        return output

    def tensor(self, name: str, value: np.ndarray) -> str:
        """Store a weight once, in float16 where that is exact, and return the name of its float32 value."""
        with np.errstate(over="ignore"):
            half = np.asarray(value, np.float16)
        exact = np.array_equal(half.astype(np.float32), value)
        cast = f"{name}:float32"
        if name not in self._tensors:
            stored = half if exact else np.asarray(value, np.float32)
            self._tensors[name] = numpy_helper.from_array(np.ascontiguousarray(stored), name)
            if exact:  # the runtime folds the cast into the weight when it loads the file
                self("Cast", name, name=cast, to=onnx.TensorProto.FLOAT)
        return cast if exact else name

    def cast(self, x: Value, dtype: type) -> str:
        """`x` as another dtype."""
        return self("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def join(self, parts: list[Value], axis: int) -> str:
        """The concatenation along `axis`."""
        return self("Concat", *parts, axis=axis)

    def reshape(self, x: Value, *shape: int | str) -> str:
        """`x` in another shape; 0 keeps a side, -1 infers one, and a name is that of a computed side, (1,) int64."""
        if any(isinstance(side, str) for side in shape):
            return self("Reshape", x, self.join([side if isinstance(side, str) else [side] for side in shape], 0))
        return self("Reshape", x, list(shape))

    def mean(self, x: Value, *axes: int, keep: bool = False) -> str:
        """The mean over `axes`."""
        return self("ReduceMean", x, list(axes), keepdims=int(keep))

    def sum(self, x: Value, *axes: int, keep: bool = False) -> str:
        """The sum over `axes`."""
        return self("ReduceSum", x, list(axes), keepdims=int(keep))

    def square_mean(self, x: Value, *axes: int, keep: bool = False) -> str:
        """The mean of squares over `axes`, which the runtime computes twice as fast as its ReduceSumSquare."""
        return self.mean(self("Mul", x, x), *axes, keep=keep)

    def slice(self, x: Value, axis: int, start: int, end: int = 2**31 - 1) -> str:
        """`x[start:end]` along `axis`."""
        return self("Slice", x, [start], [end], [axis])

    def model(self, inputs: list, outputs: list, metadata: Mapping[str, str], producer: tuple[str, str]) -> bytes:
        """The checked file of the graph with `inputs` and `outputs`, each (name, dtype, shape); equal calls give equal
        bytes. `producer`: name and version of the program."""

        def described(values):
            to_type = helper.np_dtype_to_tensor_dtype
            return [helper.make_tensor_value_info(name, to_type(np.dtype(t)), shape) for name, t, shape in values]

        nodes, used = self._used({name for name, _, _ in outputs})
        tensors = [tensor for name, tensor in self._tensors.items() if name in used]
        graph = helper.make_graph(nodes, "driqa", described(inputs), described(outputs), tensors)
        opset = [helper.make_opsetid("", OPSET)]
        made = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION)
        made.producer_name, made.producer_version = producer
        helper.set_model_props(made, dict(metadata))
        onnx.checker.check_model(made, full_check=True)
        return made.SerializeToString(deterministic=True)

    def _used(self, names: set[str]) -> tuple[list[onnx.NodeProto], set[str]]:
        """The nodes that `names` depend on, in order, and all names that they read."""
        kept, used = [], set(names)
        for node in reversed(self.nodes):
            if used.intersection(node.output):
                kept.append(node)
                used.update(node.input)
        return kept[::-1], used

    def _name(self, value: Value) -> str:
        if isinstance(value, str):
            return value
        if type(value) is float:  # a float64 scalar of numpy is a float too
            value = np.float32(value)
        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = name = f"constant_{len(self._constants)}"
            self._tensors[name] = numpy_helper.from_array(array, name)
        return self._constants[key]


class Params:
    """The parameters of one module, and what has been read of them.

    `params["a"]` are those of its submodule `a`; `params.read(graph, "kernel")` is a weight in the graph.
    """

    def __init__(self, tree: Mapping[str, Any], path: str = "", read: set[str] | None = None):
        self._tree, self._path, self._read = tree, path, set() if read is None else read

    def __getitem__(self, name: str) -> "Params":
        return Params(self._tree[name], f"{self._path}{name}/", self._read)

    def __contains__(self, name: str) -> bool:
        return name in self._tree

    def read(self, graph: Graph, name: str, arrange: Callable[[np.ndarray], np.ndarray] | None = None) -> str:
        """The weight `name` in `graph`; `arrange` brings it to the layout that ONNX uses."""
        self._read.add(self._path + name)
        value = np.asarray(self._tree[name])
        return graph.tensor(self._path + name, value if arrange is None else arrange(value))

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of the weight `name`, as JAX stores it."""
        return np.shape(self._tree[name])

    def unread(self) -> list[str]:
        """Paths that nothing has read, in the whole tree below this module."""
        found = []
        for name, value in sorted(self._tree.items()):
            found += self[name].unread() if isinstance(value, Mapping) else [self._path + name]
        return [path for path in found if path not in self._read]
