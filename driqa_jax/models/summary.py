"""Parameters, multiply-adds and milliseconds of each part of a model, for `driqa info`."""

import math
import statistics
import timeit
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from driqa_jax.models.driqa import build_model

SIDE = 224
TYPES = 34  # the size of the degradation bank; each type has few parameters
_REPEATS = 5


class Part(NamedTuple):
    """One part on one photo: `parameters`, `multiply_adds` (both counts), `milliseconds` (median) or None."""

    name: str
    parameters: int
    multiply_adds: int
    milliseconds: float | None


def multiply_adds(function: Callable, *args: Any) -> int:
    """Multiply-adds of the matrix products and convolutions in the jaxpr of `function(*args)`.

    A depthwise convolution counts each product with a kernel tap. A condition counts its most expensive branch. Raises
    ValueError for a while loop, whose length is unknown.
    """
    return _count(jax.make_jaxpr(function)(*args).jaxpr)


def _count(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name, out = equation.primitive.name, equation.outvars[0].aval
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
            total += out.size * depth
        elif name == "conv_general_dilated":
            kernel = equation.invars[1].aval
            features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
            total += out.size * kernel.size // features
        elif name == "custom_vjp_call" and equation.params["call_jaxpr"].jaxpr.debug_info.func_name == "depthwise_conv":
            kernel = equation.invars[1].aval
            total += out.size * kernel.shape[0] * kernel.shape[1]
        elif name == "scan":
            total += equation.params["length"] * _count(equation.params["jaxpr"].jaxpr)
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in equation.params["branches"])
        elif name == "while":
            raise ValueError("multiply_adds: cannot count a while loop, whose length is unknown; use a scan")
        else:
            for inner in equation.params.values():
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    total += _count(inner)
    return total


def summarize(variant: str, measure: bool = True) -> list[Part]:
    """Every part of the model of `variant`, then "all", on one 224x224 image that is also its only tile.

    The time of a part is that of its own program on the first device, batch 1, without compilation. Without `measure`
    no parameters are allocated. Raises ValueError for an unknown variant.
    """
    config = {"variant": variant, "types": TYPES, "statistics": True, "median": True, "dropout": 0.0}
    model = build_model(ml_collections.ConfigDict(config))
    pixels, valid = jnp.full((1, SIDE, SIDE, 3), 0.5), jnp.full((1, 2), SIDE, jnp.int32)
    whole = (pixels, valid, pixels[:, None], jnp.asarray([[[0.0, 0.0, 1.0, 1.0]]]))
    params = jax.eval_shape(model.init, jax.random.key(0), *whole)["params"]
    if measure:
        params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01, leaf.dtype), params)
    _, out = jax.eval_shape(lambda p: model.apply({"params": p}, *whole), params)
    out = jax.tree.map(jnp.zeros_like, out)
    mask = out["patch_mask"].reshape(1, -1) | True

    def part(name: str, *args: Any) -> Callable:
        return lambda p: model.apply({"params": p}, *args, method=lambda m, *x: getattr(m, name)(*x))

    levels = jax.tree.map(jnp.zeros_like, jax.eval_shape(part("restoration", pixels, out["d"]), params)[1])
    inputs = {
        "degradation_encoder": (pixels,),
        "restoration": (pixels, out["d"]),
        "restoration_tokens": (levels, SIDE // 32),
        "quality_encoder": (pixels, valid),
        "interaction": (out["d"], out["D"], out["q"], out["Q"], mask),
        "predictor": (out["Q"], mask, out["restoration_tokens"], out["D"], out["d"]),
    }
    runs = {name: part(name, *args) for name, args in inputs.items()}
    runs["all"] = lambda p: model.apply({"params": p}, *whole)[0]
    parts = []
    for name, run in runs.items():
        own = params if name == "all" else params[name]
        size = sum(leaf.size for leaf in jax.tree.leaves(own))
        parts.append(Part(name, size, multiply_adds(run, params), _milliseconds(run, params) if measure else None))
    return parts


def cost(model: Any, whole: tuple[int, int], tile: int, tiles: int) -> Part:
    """A whole model of any form on one photo, "all", without a time; nothing is allocated.

    `whole`: rows and columns of the canvas; `tile`: side of each of the `tiles` tiles, pixels.
    """
    shapes = ((1, *whole, 3), jnp.float32), ((1, 2), jnp.int32), ((1, tiles, tile, tile, 3), jnp.float32)
    views = [jax.ShapeDtypeStruct(*each) for each in (*shapes, ((1, tiles, 4), jnp.float32))]
    params = jax.eval_shape(model.init, jax.random.key(0), *views)["params"]
    count = multiply_adds(lambda p, *x: model.apply({"params": p}, *x)[0], params, *views)
    return Part("all", sum(leaf.size for leaf in jax.tree.leaves(params)), count, None)


def _milliseconds(run, params) -> float:
    compiled = jax.jit(run).lower(params).compile()
    jax.block_until_ready(compiled(params))
    seconds = timeit.repeat(lambda: jax.block_until_ready(compiled(params)), number=1, repeat=_REPEATS)
    return statistics.median(seconds) * 1e3
