"""Hypothesis strategies for nested parameters and gradients that match them, and walks through such structures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial

import numpy as np
from hypothesis import strategies as st
from strategies import DTYPES, arrays, as_array, cast, odd_arrays, shapes

import fastopt


@st.composite
def parameters(draw, any_order=False, depth=2):
    """Draw a function that returns strategies for parameters of one structure, and for gradients that match.

    With ``any_order``, arrays have their axes in any order in memory. Gradients with ``holes`` have None in place of
    arrays and containers; those that are ``odd`` need a conversion.
    """
    kind = draw(st.sampled_from([np.ndarray, fastopt.Flat, fastopt.Flat, list, tuple, dict][: 6 if depth else 2]))
    dtype, shape = draw(DTYPES), draw(shapes(max_dims=3))
    if kind is np.ndarray:
        axes = draw(st.permutations(range(len(shape)))) if any_order else range(len(shape))

        def array(bounds=None, holes=False, odd=False):
            made = arrays(dtype, tuple(shape[axis] for axis in axes), bounds)
            made = made.map(lambda x: x.transpose(np.argsort(axes)))  # which has the shape
            return made.flatmap(odd_arrays) if odd else made

        return array
    if kind is fastopt.Flat:
        layout = dict(zip("wbcd", [shape, *draw(st.lists(shapes(), max_size=3))], strict=False))

        def flat(bounds=None, holes=False, odd=False):
            made = arrays(dtype, (sum(map(math.prod, layout.values())),), bounds)
            made = made.flatmap(lambda x: DTYPES.map(partial(cast, x))) if odd else made
            return made.map(partial(fastopt.Flat.from_buffer, layout))

        return flat
    children = [draw(parameters(any_order, depth - 1)) for _ in range(draw(st.integers(0, 3)))]

    def container(bounds=None, holes=False, odd=False):
        items = [child(bounds, holes, odd) for child in children]
        items = [st.none() | item for item in items] if holes else items
        return st.tuples(*items).map(lambda x: dict(zip("abc", x, strict=False)) if kind is dict else kind(x))

    return container


def arrays_and_flats(params):
    """Return all arrays in nested containers, with each ``Flat`` as one."""
    if isinstance(params, fastopt.Flat) or not isinstance(params, (list, tuple, dict)):
        return [params]
    return [item for own in (params.values() if isinstance(params, dict) else params) for item in arrays_and_flats(own)]


def matched(params, value, path=""):
    """Return for each array of parameters its path, and the array at that place of a value, None if it has none."""
    if not isinstance(params, (list, tuple, Mapping)):
        return [(path, None if value is None else as_array(value))]
    keys = params if isinstance(params, Mapping) else range(len(params))
    items = [(key, None if value is None else value[key]) for key in keys]
    return [pair for key, item in items for pair in matched(params[key], item, f"{path}[{key!r}]")]


def containers(params):
    """Return all nested lists and dictionaries of parameters."""
    if isinstance(params, (list, tuple, dict)):
        inner = [
            found for own in (params.values() if isinstance(params, dict) else params) for found in containers(own)
        ]
        return inner if isinstance(params, tuple) else [params, *inner]
    return []
