"""From a JAX function to an ONNX model, by way of its jaxpr.

Why not jax2onnx: its releases up to 0.17.1 convert the network alone, but with a symbolic batch
neither padding, indexing, splitting nor resizing, which the complete program needs; and they cannot
be installed beside orbax-checkpoint 0.12. The package's models need some fifty operations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import Literal

from vitpose_jax.errors import UserError
from vitpose_jax.export.graph import Graph, Operand
from vitpose_jax.export.operators import BROADCASTING, RULES, WHOLE

OPSET = 18
"""Read by ONNX Runtime 1.14, TensorRT 8.6 and OpenVINO 2023.0, and by later versions."""
IR_VERSION = 8

CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")
"""Parameters that hold the function that an equation calls."""


def to_onnx(
    function: Callable[..., Sequence[jax.Array]],
    weights: Mapping[str, Any],
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    outputs: Sequence[str],
    batch: Any,
) -> Any:
    """The ONNX model of `function(weights, *inputs)`.

    Args:
        function: any function of the package's models.
        weights: arrays that become part of the file, by name.
        inputs: shapes and types by name; the first one's first axis is the batch.
        outputs: names of the results.
        batch: the symbol of the batch's size in these shapes.

    Raises:
        UserError: the function does something that has no rule here.
    """
    traced: Any = jax.make_jaxpr(function)(weights, *inputs.values())
    graph = Graph(batch)
    arrays = []
    names = sorted(weights)  # the order in which JAX flattens a dict
    for name, var in zip(names, traced.jaxpr.invars, strict=False):
        array = np.asarray(weights[name], var.aval.dtype)
        graph.name_constant(array, name)
        arrays.append(array)
    tensors = [
        graph.input(name, tuple(spec.shape), np.dtype(spec.dtype)) for name, spec in inputs.items()
    ]
    results = _convert(graph, traced, [*arrays, *tensors])
    whole = [
        graph.expand(x, tuple(var.aval.shape))
        for x, var in zip(results, traced.jaxpr.outvars, strict=True)
    ]
    return graph.model(list(zip(outputs, whole, strict=True)), OPSET, IR_VERSION)


def _convert(graph: Graph, closed: Any, operands: Sequence[Operand]) -> list[Operand]:
    """Add a jaxpr's equations to the graph; return its results."""
    jaxpr = closed.jaxpr
    constants = zip(jaxpr.constvars, map(np.asarray, closed.consts), strict=True)
    known: dict[Any, Operand] = dict(constants)
    known |= zip(jaxpr.invars, operands, strict=True)

    def read(atom: Any) -> Operand:
        if not isinstance(atom, Literal):
            return known[atom]
        aval: Any = atom.aval
        return np.asarray(atom.val, aval.dtype)

    for eqn in jaxpr.eqns:
        results = _equation(graph, eqn, [read(atom) for atom in eqn.invars])
        known |= zip(eqn.outvars, results, strict=True)
    return [read(atom) for atom in jaxpr.outvars]


def _equation(graph: Graph, eqn: Any, operands: Sequence[Operand]) -> Sequence[Operand]:
    name = eqn.primitive.name
    inner = next((eqn.params[key] for key in CALLS if key in eqn.params), None)
    if inner is not None:
        rule = WHOLE.get((name, inner.jaxpr.debug_info.func_name))
        return rule(graph, eqn, operands) if rule else _convert(graph, inner, operands)
    static = all(isinstance(n, int) for var in eqn.outvars for n in var.aval.shape)
    known = static and all(isinstance(x, np.ndarray) for x in operands)
    if known and name not in ("broadcast_in_dim", "dim_as_value"):
        return _evaluate(eqn, operands)
    try:
        if name in BROADCASTING:
            return BROADCASTING[name](graph, eqn, operands)
        if name in RULES:
            shapes = [tuple(atom.aval.shape) for atom in eqn.invars]
            expanded = [graph.expand(x, s) for x, s in zip(operands, shapes, strict=True)]
            return RULES[name](graph, eqn, expanded)
    except NotImplementedError as error:
        raise UserError(f"ONNX: {error} cannot be exported; export with --to stablehlo") from None
    raise UserError(f"ONNX: the operation {name!r} cannot be exported; export with --to stablehlo")


def _evaluate(eqn: Any, operands: Sequence[Any]) -> Sequence[Operand]:
    """The results of an equation of constants, which need not be computed at every run."""
    shapes = [tuple(atom.aval.shape) for atom in eqn.invars]
    whole = [np.broadcast_to(x, s) for x, s in zip(operands, shapes, strict=True)]
    found = eqn.primitive.bind(*map(jax.numpy.asarray, whole), **eqn.params)
    return list(map(np.asarray, found if eqn.primitive.multiple_results else [found]))
