"""What each operation of a traced program is in ONNX.

Only what the package's models need: each rule takes the graph, the equation and its operands, and
returns the equation's results.
"""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from jax.extend.core import Literal

from vitpose_jax.export.graph import Dim, Graph, Operand, Tensor

Rule = Callable[[Graph, Any, Sequence[Operand]], Sequence[Operand]]

ELEMENTWISE = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "pow": "Pow",
    "neg": "Neg",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "exp": "Exp",
    "log": "Log",
    "erf": "Erf",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "sqrt": "Sqrt",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "not": "Not",
}
SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision")


def shape_of(eqn: Any, index: int = 0) -> tuple[Dim, ...]:
    """The shape of an equation's result."""
    return tuple(eqn.outvars[index].aval.shape)


def dtype_of(eqn: Any) -> np.dtype:
    """The type of an equation's (first) result."""
    return np.dtype(eqn.outvars[0].aval.dtype)


def _broadcast(operands: Sequence[Operand]) -> tuple[Dim, ...]:
    """The shape in the graph of an elementwise operator's result."""
    rank = max(len(x.shape) for x in operands)
    padded = [(1,) * (rank - len(x.shape)) + tuple(x.shape) for x in operands]
    return tuple(next((s for s in sides if s != 1), 1) for sides in zip(*padded, strict=True))


def elementwise(kind: str, *operands: Operand, graph: Graph, dtype: Any, **more: Any) -> Tensor:
    """A node whose operands broadcast against each other."""
    return graph.node(kind, operands, _broadcast(operands), dtype, **more)


def _elementwise(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    kind = ELEMENTWISE[eqn.primitive.name]
    return [elementwise(kind, *x, graph=graph, dtype=dtype_of(eqn))]


def _ne(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    equal = elementwise("Equal", *x, graph=graph, dtype=bool)
    return [graph.node("Not", [equal], equal.shape, bool)]


def _rem(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    return [elementwise("Mod", *x, graph=graph, dtype=dtype_of(eqn), fmod=1)]


def _rsqrt(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    root = graph.node("Sqrt", x, x[0].shape, x[0].dtype)
    return [graph.node("Reciprocal", [root], root.shape, root.dtype)]


def _square(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    return [graph.node("Mul", [x[0], x[0]], x[0].shape, x[0].dtype)]


def _integer_pow(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    if eqn.params["y"] == 2:
        return _square(graph, eqn, x)
    power = np.asarray(eqn.params["y"], x[0].dtype)
    return [graph.node("Pow", [x[0], power], x[0].shape, x[0].dtype)]


def _clamp(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    low, value, high = x
    raised = elementwise("Max", value, low, graph=graph, dtype=dtype_of(eqn))
    return [elementwise("Min", raised, high, graph=graph, dtype=dtype_of(eqn))]


def _select(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    which, otherwise, chosen = x
    return [elementwise("Where", which, chosen, otherwise, graph=graph, dtype=dtype_of(eqn))]


def _convert(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    return [graph.cast(x[0], dtype_of(eqn))]


def _broadcast_in_dim(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    shape: list[Dim] = [1] * len(shape_of(eqn))
    for axis, side in zip(eqn.params["broadcast_dimensions"], x[0].shape, strict=True):
        shape[axis] = side
    return [graph.reshape(x[0], shape)]


def _reshape(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    return [graph.reshape(x[0], shape_of(eqn))]


def _squeeze(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    gone = {axis % len(x[0].shape) for axis in eqn.params["dimensions"]}
    kept = [side for axis, side in enumerate(x[0].shape) if axis not in gone]
    return [graph.reshape(x[0], kept)]


def _transpose(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    return [graph.transpose(x[0], eqn.params["permutation"])]


def _concatenate(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    axis = eqn.params["dimension"]
    return [graph.node("Concat", x, shape_of(eqn), dtype_of(eqn), axis=axis)]


def _stack(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    axis = eqn.params["axis"] % len(shape_of(eqn))
    parts = [graph.reshape(part, (*part.shape[:axis], 1, *part.shape[axis:])) for part in x]
    return [graph.node("Concat", parts, shape_of(eqn), dtype_of(eqn), axis=axis)]


def _split(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    axis, sizes = eqn.params["axis"], eqn.params["sizes"]
    outputs = [(shape_of(eqn, index), dtype_of(eqn)) for index in range(len(sizes))]
    if all(size == sizes[0] for size in sizes):
        return graph.nodes_of("Split", x, outputs, axis=axis, num_outputs=len(sizes))
    return graph.nodes_of("Split", [x[0], graph.ints(sizes)], outputs, axis=axis)


def _slice(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    params = eqn.params
    strides = params["strides"] or (1,) * len(x[0].shape)
    bounds = zip(params["start_indices"], params["limit_indices"], strides, strict=True)
    return [_cut(graph, x[0], list(bounds), shape_of(eqn))]


def _cut(
    graph: Graph, x: Operand, bounds: Sequence[tuple[Dim, Dim, int]], shape: tuple[Dim, ...]
) -> Operand:
    """x from start to limit by stride along each axis; the result has this shape."""
    cuts = [
        (axis, *bound)
        for axis, (bound, side) in enumerate(zip(bounds, x.shape, strict=True))
        if bound != (0, side, 1)
    ]
    if not cuts:
        return x
    axes, starts, limits, steps = (graph.ints(column) for column in zip(*cuts, strict=True))
    return graph.node("Slice", [x, starts, limits, axes, steps], shape, x.dtype)


def _rev(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    axes = eqn.params["dimensions"]
    count, beyond = len(axes), np.iinfo(np.int64).min
    inputs = [x[0], *map(graph.ints, ([-1] * count, [beyond] * count, axes, [-1] * count))]
    return [graph.node("Slice", inputs, shape_of(eqn), dtype_of(eqn))]


def _pad(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    low, high, between = zip(*eqn.params["padding_config"], strict=True)
    if any(between):
        raise NotImplementedError("padding between the elements")
    inputs = [x[0], graph.ints([*low, *high]), x[1]]
    return [graph.node("Pad", inputs, shape_of(eqn), dtype_of(eqn))]


def _iota(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    """Only for an axis whose length depends on the batch; others are constants."""
    shape, axis = shape_of(eqn), eqn.params["dimension"]
    end = graph.reshape(graph.size(shape[axis]), ())
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    steps = graph.node("Range", [zero, end, one], (shape[axis],), np.int64)
    sides = [shape[axis] if i == axis else 1 for i in range(len(shape))]
    return [graph.cast(graph.reshape(steps, sides), dtype_of(eqn))]


def _dim_as_value(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    return [graph.cast(graph.reshape(graph.size(eqn.params["dim"]), ()), dtype_of(eqn))]


def _reduce(kind: str) -> Rule:
    def rule(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
        inputs = [x[0], graph.ints(sorted(eqn.params["axes"]))]
        return [graph.node(kind, inputs, shape_of(eqn), dtype_of(eqn), keepdims=0)]

    return rule


def _reduce_bool(kind: str) -> Rule:
    def rule(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
        inputs = [graph.cast(x[0], np.int32), graph.ints(sorted(eqn.params["axes"]))]
        found = graph.node(kind, inputs, shape_of(eqn), np.int32, keepdims=0)
        return [graph.cast(found, bool)]

    return rule


def _argmax(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    (axis,) = eqn.params["axes"]
    values = graph.cast(x[0], np.int32) if x[0].dtype == bool else x[0]
    found = graph.node("ArgMax", [values], shape_of(eqn), np.int64, axis=axis, keepdims=0)
    return [graph.cast(found, dtype_of(eqn))]


def _cummax(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    """One maximum for each step; the axis is a motion's few frames."""
    axis, shape = eqn.params["axis"], shape_of(eqn)
    if eqn.params["reverse"] or not isinstance(shape[axis], int):
        raise NotImplementedError("a reversed or symbolic cumulative maximum")
    one = tuple(1 if i == axis else side for i, side in enumerate(shape))
    steps = graph.nodes_of(
        "Split", x, [(one, dtype_of(eqn))] * shape[axis], axis=axis, num_outputs=shape[axis]
    )
    highest = steps[:1]
    for step in steps[1:]:
        highest.append(graph.node("Max", [highest[-1], step], one, dtype_of(eqn)))
    return [graph.node("Concat", highest, shape, dtype_of(eqn), axis=axis)]


def _product(sides: Sequence[Dim]) -> Dim:
    return reduce(lambda a, b: a * b, sides, 1)


def _dot_general(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    (left_sum, right_sum), (left_batch, right_batch) = eqn.params["dimension_numbers"]
    # A product of half-precision numbers in float32: ONNX's has the type of its factors.
    left, right = (graph.cast(operand, dtype_of(eqn)) for operand in x)
    left_free = [i for i in range(len(left.shape)) if i not in (*left_sum, *left_batch)]
    right_free = [i for i in range(len(right.shape)) if i not in (*right_sum, *right_batch)]
    left = graph.transpose(left, (*left_batch, *left_free, *left_sum))
    right = graph.transpose(right, (*right_batch, *right_sum, *right_free))
    shape, batch = shape_of(eqn), len(left_batch)
    if not batch and len(left_sum) == 1 and len(right.shape) == 2:
        return [graph.node("MatMul", [left, right], shape, dtype_of(eqn))]
    sizes = left.shape[:batch]
    common = _product(left.shape[len(left.shape) - len(left_sum) :])
    rows = _product(left.shape[batch : batch + len(left_free)])
    columns = _product(right.shape[len(right.shape) - len(right_free) :] if right_free else ())
    left = graph.reshape(left, (*sizes, rows, common))
    right = graph.reshape(right, (*sizes, common, columns))
    found = graph.node("MatMul", [left, right], (*sizes, rows, columns), dtype_of(eqn))
    return [graph.reshape(found, shape)]


def _conv(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    params, numbers = eqn.params, eqn.params["dimension_numbers"]
    image, kernel = graph.transpose(x[0], numbers.lhs_spec), graph.transpose(x[1], numbers.rhs_spec)
    (low, high), spread = zip(*params["padding"], strict=True), params["lhs_dilation"]
    common: dict[str, Any] = {"group": params["feature_group_count"]}
    shape = tuple(shape_of(eqn)[axis] for axis in numbers.out_spec)
    if any(step != 1 for step in spread):
        if any(step != 1 for step in params["window_strides"]) or common["group"] != 1:
            raise NotImplementedError("a strided or grouped transposed convolution")
        assert isinstance(kernel, np.ndarray)
        sides = kernel.shape[2:]
        kernel = np.ascontiguousarray(kernel[:, :, ::-1, ::-1].swapaxes(0, 1))
        pads = [n - 1 - p for ends in (low, high) for n, p in zip(sides, ends, strict=True)]
        kind, common["strides"] = "ConvTranspose", spread
    else:
        kind, pads = "Conv", [*low, *high]
        common |= {"strides": params["window_strides"], "dilations": params["rhs_dilation"]}
    found = graph.node(kind, [image, kernel], shape, dtype_of(eqn), pads=pads, **common)
    return [graph.transpose(found, np.argsort(numbers.out_spec).tolist())]


def _gather(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    """Indexing: whole slices along some axes at the indices along the others.

    Indices are taken to lie inside, which those of the package's models do.
    """
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    operand, indices = x
    if isinstance(indices, np.ndarray) and indices.ndim == 1:  # one place, known beforehand
        starts = dict(zip(numbers.start_index_map, map(int, indices), strict=True))
        bounds = [(starts.get(i, 0), starts.get(i, 0) + size, 1) for i, size in enumerate(sizes)]
        return [graph.reshape(_cut(graph, operand, bounds, tuple(sizes)), shape_of(eqn))]
    mapped, paired = numbers.start_index_map, numbers.operand_batching_dims
    rest = [axis for axis in range(len(operand.shape)) if axis not in (*mapped, *paired)]
    if set(numbers.collapsed_slice_dims) != set(mapped) or any(
        sizes[axis] != operand.shape[axis] for axis in rest
    ):
        raise NotImplementedError("a gather of parts of slices")
    # Axes of the result, as labels: those of the indices, and the operand's that are kept whole.
    kept, places = [f"kept{axis}" for axis in rest], numbers.offset_dims
    at = [f"at{axis}" for axis in range(len(indices.shape) - 1)]
    kept_left, at_left = iter(kept), iter(at)
    wanted = [next(kept_left) if i in places else next(at_left) for i in range(len(shape_of(eqn)))]
    if len(mapped) == 1 and not paired:
        axis = mapped[0]
        before = [f"kept{other}" for other in rest if other < axis]
        given = [*before, *at, *kept[len(before) :]]
        index = graph.reshape(indices, indices.shape[:-1])
        kind, attributes, inputs = "Gather", {"axis": axis}, [operand, index]
    else:
        first = list(numbers.start_indices_batching_dims)
        others = [axis for axis in range(len(at)) if axis not in first]
        indices = graph.transpose(indices, (*first, *others, len(at)))
        operand = graph.transpose(operand, (*paired, *mapped, *rest))
        given = [*(at[axis] for axis in (*first, *others)), *kept]
        inputs = [operand, graph.cast(indices, np.int64)]
        kind, attributes = "GatherND", {"batch_dims": len(paired)}
    sides = dict(zip(wanted, shape_of(eqn), strict=True))
    shape = tuple(sides[label] for label in given)
    found = graph.node(kind, inputs, shape, dtype_of(eqn), **attributes)
    return [graph.transpose(found, [given.index(label) for label in wanted])]


def _same(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    return x


def _layer_norm(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    added = (
        atom.val
        for inner in eqn.params["call_jaxpr"].eqns
        if inner.primitive.name == "add"
        for atom in inner.invars
        if isinstance(atom, Literal)
    )
    epsilon = float(next(added))  # the only constant that `layer_norm` adds
    values, *affine = x
    wide = graph.cast(values, np.float32)  # in which its statistics are computed
    found = graph.node(
        "LayerNormalization", [wide, *affine], wide.shape, np.float32, axis=-1, epsilon=epsilon
    )
    return [graph.cast(found, dtype_of(eqn))]


def _gelu(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    """In the order of operations that runtimes recognise and compute at once."""
    wide = graph.cast(x[0], np.float32)

    def step(kind: str, *operands: Operand) -> Tensor:
        return graph.node(kind, operands, wide.shape, np.float32)

    error = step("Erf", step("Div", wide, np.float32(np.sqrt(2)).reshape(1)))
    half = step("Mul", wide, step("Add", error, np.ones(1, np.float32)))
    return [graph.cast(step("Mul", half, np.full(1, 0.5, np.float32)), dtype_of(eqn))]


def _softmax(graph: Graph, eqn: Any, x: Sequence[Operand]) -> Sequence[Operand]:
    return [graph.node("Softmax", x, x[0].shape, x[0].dtype, axis=-1)]


WHOLE: dict[tuple[str, str], Rule] = {
    ("custom_vjp_call", "layer_norm"): _layer_norm,
    ("custom_vjp_call", "gelu"): _gelu,
    ("jit", "softmax"): _softmax,
}
"""Functions of the package (by the primitive that calls them, and their name) that are one operator
or a known pattern in ONNX, which runtimes compute in one pass."""

BROADCASTING: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(SAME, _same),
    "ne": _ne,
    "rem": _rem,
    "rsqrt": _rsqrt,
    "square": _square,
    "integer_pow": _integer_pow,
    "clamp": _clamp,
    "select_n": _select,
    "convert_element_type": _convert,
    "broadcast_in_dim": _broadcast_in_dim,
    "squeeze": _squeeze,
    "transpose": _transpose,
}
"""Rules for operands with pending broadcasts (see `Tensor.shape`)."""

RULES: dict[str, Rule] = {
    "reshape": _reshape,
    "concatenate": _concatenate,
    "stack": _stack,
    "split": _split,
    "slice": _slice,
    "rev": _rev,
    "pad": _pad,
    "iota": _iota,
    "dim_as_value": _dim_as_value,
    "reduce_sum": _reduce("ReduceSum"),
    "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"),
    "reduce_and": _reduce_bool("ReduceMin"),
    "reduce_or": _reduce_bool("ReduceMax"),
    "argmax": _argmax,
    "cummax": _cummax,
    "dot_general": _dot_general,
    "conv_general_dilated": _conv,
    "gather": _gather,
}
"""Rules for operands whose broadcasts have been carried out."""
