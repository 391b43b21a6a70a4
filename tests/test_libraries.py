"""The guide to other libraries: its examples train, and its statements about JAX hold.

Each library is imported in a child process: JAX warns about every later fork, and several bring an OpenMP runtime.
"""

from __future__ import annotations

import importlib.util
import re
from textwrap import dedent

import pytest
from processes import run_python

from fastopt import optimizers

EXAMPLES = {  # how each example spells the parameters that it has trained
    "JAX": ("jax", "[params['w'], params['b']]"),
    "HIPS autograd": ("autograd", "[params['w'], params['b']]"),
    "PyTorch on the CPU": ("torch", "[p.detach().numpy() for p in model.parameters()]"),
    "scikit-learn": ("sklearn", "[*model.coefs_, *model.intercepts_]"),
}

DATA = """
import numpy as np, fastopt
x = np.random.default_rng(0).normal(size=(64, 3)).astype(np.float32)
y = x @ np.array([1, -2, 3], np.float32) + np.float32(0.5)
"""


def run(library, source):
    """Run Python code in a child process that may import a library."""
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    done = run_python("-c", source, PYTHONWARNINGS="default")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("title", EXAMPLES)
def test_example_finds_the_line_in_the_data(title):
    library, params = EXAMPLES[title]
    section = re.search(rf"^\*\*{title}\b(.*?)(?=^\*\*|\Z)", optimizers.__doc__, re.MULTILINE | re.DOTALL)
    code = dedent("".join(re.findall(r"^    .*\n|^\n", section[1], re.MULTILINE)))
    check = f"np.testing.assert_allclose(np.hstack([np.ravel(p) for p in {params}]), [1, -2, 3, 0.5], atol=1e-4)"
    run(library, DATA + code + check)


GRADIENTS = """
import jax, jax.numpy as jnp, numpy as np, fastopt
half_squares = jax.jit(jax.value_and_grad(lambda w: 0.5 * (w * w).sum()))
for _ in range(5):
    w = np.ones(1_000_000, np.float32)
    optimizer = fastopt.SGD(w, lr=0.5)
    for step in range(1, 6):
        value, grads = half_squares(w)
        optimizer.step(CONVERT(grads))
        assert (w == 0.5**step).all()
"""


@pytest.mark.parametrize("convert", ["", "np.asarray"])
def test_step_waits_for_gradients_of_jax(convert):
    run("jax", GRADIENTS.replace("CONVERT", convert))


READ_ONLY = """
import jax.numpy as jnp, numpy as np, fastopt
try:
    fastopt.SGD({"w": jnp.ones(2)})
except ValueError as error:
    message = str(error)
assert message == "params['w'] must be writable, got a read-only array ('ArrayImpl'): pass a copy, np.array(...) of it"
fastopt.SGD(np.array(jnp.ones(2))).step(np.asarray(jnp.ones(2)))
"""


def test_parameters_of_jax_are_refused_with_a_remedy():
    run("jax", READ_ONLY)


RESULTS = """
import jax, jax.numpy as jnp, numpy as np, fastopt
total = jax.jit(lambda w: w.astype(jnp.int32).sum())
for _ in range(10):
    w, grads = np.ones(1_000_000, np.float32), np.ones(1_000_000, np.float32)
    result = WAIT(total(w))
    fastopt.SGD(w, lr=1.0).step(grads)
    assert int(result) == 1_000_000
"""


@pytest.mark.parametrize("wait", ["jax.block_until_ready", "np.asarray", "int"])
def test_results_of_jax_that_were_waited_for_are_those_of_the_old_parameters(wait):
    run("jax", RESULTS.replace("WAIT", wait))
