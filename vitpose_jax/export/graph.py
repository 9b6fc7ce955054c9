"""An ONNX graph under construction, for arrays whose shapes may depend on the batch's size."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Dim = Any
"""An int, or a multiple of the symbolic batch size (`jax.export.symbolic_shape`)."""

TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint8": TensorProto.UINT8,
    "bool": TensorProto.BOOL,
}


@dataclass(frozen=True)
class Tensor:
    """A tensor of the graph.

    Attributes:
        name: in the graph.
        shape: in the graph; 1 where a broadcast of the traced program has not been carried out,
            since ONNX's operators broadcast by themselves.
        dtype: element type.
    """

    name: str
    shape: tuple[Dim, ...]
    dtype: np.dtype


Operand = Tensor | np.ndarray
"""A tensor, or a constant, which becomes part of the file only where a node reads it."""


class Graph:
    """Collects nodes and the constants they read.

    Attributes:
        batch: the symbol of the batch's size.
    """

    def __init__(self, batch: Dim) -> None:
        self.batch = batch
        self.nodes: list[Any] = []
        self.inputs: list[Any] = []
        self._names: dict[int, str] = {}  # names wanted for constants, by identity
        self._constants: dict[Any, tuple[str, np.ndarray]] = {}
        self._sizes: dict[int, Operand] = {}
        self._count = 0

    def input(self, name: str, shape: tuple[Dim, ...], dtype: np.dtype) -> Tensor:
        """Declare an input of the graph."""
        self.inputs.append(helper.make_tensor_value_info(name, *self._type(shape, dtype)))
        return Tensor(name, shape, dtype)

    def _type(self, shape: tuple[Dim, ...], dtype: np.dtype) -> tuple[int, list[int | str]]:
        return TYPES[dtype.name], [side if isinstance(side, int) else "batch" for side in shape]

    def name_constant(self, array: np.ndarray, name: str) -> None:
        """Give a constant its name in the file."""
        self._names[id(array)] = name

    def node(
        self,
        kind: str,
        inputs: Sequence[Operand],
        shape: tuple[Dim, ...],
        dtype: Any,
        **attributes: Any,
    ) -> Tensor:
        """Add a node with one output."""
        return self.nodes_of(kind, inputs, [(shape, dtype)], **attributes)[0]

    def nodes_of(
        self,
        kind: str,
        inputs: Sequence[Operand],
        outputs: Sequence[tuple[tuple[Dim, ...], Any]],
        **attributes: Any,
    ) -> list[Tensor]:
        """Add a node with several outputs, given their shapes and types."""
        self._count += 1
        tensors = [
            Tensor(f"{kind}_{self._count}" + (f"_{i}" if i else ""), tuple(shape), np.dtype(dtype))
            for i, (shape, dtype) in enumerate(outputs)
        ]
        names = [self._read(operand) for operand in inputs]
        self.nodes.append(
            helper.make_node(kind, names, [tensor.name for tensor in tensors], **attributes)
        )
        return tensors

    def _read(self, operand: Operand) -> str:
        """The name under which a node reads an operand."""
        if isinstance(operand, Tensor):
            return operand.name
        key: Any = id(operand)
        if operand.size <= 64:
            key = (operand.dtype.str, operand.shape, operand.tobytes())
        if key not in self._constants:
            name = self._names.get(id(operand), f"constant_{len(self._constants)}")
            self._constants[key] = (name, operand)  # which keeps its id from being used again
        return self._constants[key][0]

    def ints(self, values: Sequence[int]) -> np.ndarray:
        """A list of integers, as operators take shapes and axes."""
        return np.array(values, np.int64)

    def size(self, dim: Dim) -> Operand:
        """The size of an axis when the graph runs, int64 (1,)."""
        if isinstance(dim, int):
            return self.ints([dim])
        factor = int(dim // self.batch)
        if factor not in self._sizes:
            first = Tensor(self.inputs[0].name, (), np.dtype(np.uint8))
            found = self.node("Shape", [first], (1,), np.int64, start=0, end=1)
            if factor != 1:
                found = self.node("Mul", [found, self.ints([factor])], (1,), np.int64)
            self._sizes[factor] = found
        return self._sizes[factor]

    def reshape(self, x: Operand, shape: Sequence[Dim]) -> Operand:
        """x in another shape of the same size."""
        shape = tuple(shape)
        if isinstance(x, np.ndarray):
            return x.reshape(shape)
        if x.shape == shape:
            return x
        # All but one size must be known; one that depends on the batch follows from the others.
        symbolic = [side for side in shape if not isinstance(side, int)]
        assert len(symbolic) <= 1, shape
        target = self.ints([side if isinstance(side, int) else -1 for side in shape])
        return self.node("Reshape", [x, target], shape, x.dtype)

    def transpose(self, x: Operand, order: Sequence[int]) -> Operand:
        """x with its axes in another order."""
        order = tuple(int(axis) for axis in order)
        if order == tuple(range(len(order))):
            return x
        if isinstance(x, np.ndarray):
            return np.ascontiguousarray(x.transpose(order))
        shape = tuple(x.shape[axis] for axis in order)
        return self.node("Transpose", [x], shape, x.dtype, perm=order)

    def cast(self, x: Operand, dtype: Any) -> Operand:
        """x in another type."""
        dtype = np.dtype(dtype)
        if x.dtype == dtype:
            return x
        if isinstance(x, np.ndarray):
            return x.astype(dtype)
        return self.node("Cast", [x], x.shape, dtype, to=TYPES[dtype.name])

    def expand(self, x: Operand, shape: tuple[Dim, ...]) -> Operand:
        """Carry out a pending broadcast, so that x really has this shape."""
        if x.shape == shape:
            return x
        if isinstance(x, np.ndarray) and all(isinstance(side, int) for side in shape):
            return np.ascontiguousarray(np.broadcast_to(x, shape))
        sizes = [self.size(side) for side in shape]
        target = self.node("Concat", sizes, (len(shape),), np.int64, axis=0)
        return self.node("Expand", [x, target], shape, x.dtype)

    def model(self, outputs: Sequence[tuple[str, Operand]], opset: int, ir_version: int) -> Any:
        """The finished model, with named outputs."""
        results = []
        for name, x in outputs:
            given = self._read(x)
            self.nodes.append(helper.make_node("Identity", [given], [name]))
            results.append(helper.make_tensor_value_info(name, *self._type(x.shape, x.dtype)))
        constants = [
            numpy_helper.from_array(np.ascontiguousarray(array), name)
            for name, array in self._constants.values()
        ]
        graph = helper.make_graph(self.nodes, "vitpose_jax", self.inputs, results, constants)
        opsets = [helper.make_opsetid("", opset)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=ir_version, producer_name="vitpose_jax"
        )
