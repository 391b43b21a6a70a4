"""The optimizers, and how to use them with arrays of other libraries.

An optimizer keeps the memory of the arrays that it was made with and updates it in place. It can train a model of any
library that computes in the same memory and returns gradients as arrays. Gradients have the dtype and the layout of
their parameters; ``convert_grads=True`` copies others. None in place of a gradient leaves its array out of the step.
Arrays on a GPU raise ``TypeError``: copy gradients to the CPU, and parameters to the GPU after a step.

**Batches in parts.** Use ``micro_steps`` for the random numbers of `fastopt.dropout` and `fastopt.augment`. It counts
the parts, too, so that each gets its own mask; with ``steps``, which counts whole batches, all parts would share one.

>>> import numpy as np, fastopt
>>> x, y, w = np.ones((8, 3)), np.ones((8, 1)), np.zeros((3, 1))
>>> optimizer = fastopt.SGD(w, lr=0.1)
>>> for rows in (slice(0, 4), slice(4, 8)):
...     inputs = fastopt.dropout(x[rows], 0.5, seed=0, step=optimizer.micro_steps)
...     _, dpred = fastopt.mse(inputs @ w, y[rows])
...     optimizer.accumulate(inputs.T @ dpred)
>>> optimizer.step()
>>> optimizer.steps, optimizer.micro_steps
(1, 2)

**The step itself.** Evolution strategies, for example, need the step for its norm, or to add it to parameters that they
keep. Let the optimizer update an array of zeros. Weight decay has no effect there, since it needs the parameters:

>>> step = np.zeros(3)
>>> optimizer = fastopt.Adam(step, lr=0.1)
>>> for gradient in (np.ones(3), np.ones(3)):
...     step[:] = 0
...     optimizer.step(gradient)
>>> step.round(6)
array([-0.1, -0.1, -0.1])

In the examples below, ``x`` and ``y`` are arrays of float32 with the shapes (n, 3) and (n,).

**JAX.** Arrays of JAX are read-only: copy the initial values with ``np.array``. Dictionaries, lists and tuples of
arrays, nested in any way, are used as they are, by fastopt and by JAX:

    import jax

    def loss(params, x, y):
        return ((x @ params["w"] + params["b"] - y) ** 2).mean()

    params = jax.tree.map(np.array, {"w": jax.numpy.zeros(3), "b": jax.numpy.zeros(())})
    optimizer = fastopt.Adam(params, lr=0.1)
    loss_and_grads = jax.jit(jax.value_and_grad(loss))
    for _ in range(300):
        value, grads = jax.block_until_ready(loss_and_grads(params, x, y))
        optimizer.step(grads)

Wait for every result that is computed from the parameters before the step, by ``jax.block_until_ready``, ``float`` or
``np.asarray``: JAX's functions return early and read NumPy's memory later. A metric that was not waited for may be that
of the new parameters. ``step`` itself waits for the gradients, but not for results of other calls. Copies by
``jax.numpy.array`` are also made later, and ``jax.device_put`` may share the memory for good: copy by ``w.copy()``.
Pass parameters to a jitted function as arguments, because it keeps other arrays as constants. JAX computes in float32
unless ``jax_enable_x64`` is set. For a `fastopt.Flat`, pass ``dict(params)`` and write the gradients to another
``Flat``: ``grads[name] = grad``. ``python -m fastopt.examples.jax_digits`` compares with Optax.

**HIPS autograd.** Gradients have the structure of the parameters: nested dictionaries, lists and tuples, or the one
vector that ``autograd.misc.flatten.flatten`` returns. Data of float64 make gradients of float64, also for parameters of
float32.

    from autograd import value_and_grad

    def loss(params, x, y):
        return ((x @ params["w"] + params["b"] - y) ** 2).mean()

    params = {"w": np.zeros(3, np.float32), "b": np.zeros((), np.float32)}
    optimizer = fastopt.Adam(params, lr=0.1)
    for _ in range(300):
        value, grads = value_and_grad(loss)(params, x, y)
        optimizer.step(grads)

``python -m fastopt.examples.autograd_digits`` compares with ``autograd.misc.optimizers.adam``.

**PyTorch on the CPU.** `fastopt.torch` has optimizers of PyTorch that take the place of those of ``torch.optim``:

    import torch
    import fastopt.torch

    model = torch.nn.Linear(3, 1)
    optimizer = fastopt.torch.Adam(model.parameters(), lr=0.1, zero_grads=True)
    for _ in range(300):
        value = ((model(torch.from_numpy(x))[:, 0] - torch.from_numpy(y)) ** 2).mean()
        value.backward()
        optimizer.step()

**scikit-learn.** The module `fastopt.sklearn` has ``MLPClassifier`` and ``MLPRegressor`` with these optimizers:

    from fastopt.sklearn import MLPRegressor

    model = MLPRegressor(hidden_layer_sizes=(), optimizer=fastopt.Adam, learning_rate_init=0.1, alpha=0.0)
    for _ in range(300):
        model.partial_fit(x, y)
"""

from fastopt.optimizers._base import Optimizer as Optimizer
from fastopt.optimizers.adagrad import Adagrad
from fastopt.optimizers.adam import Adam, AdamW
from fastopt.optimizers.rmsprop import RMSprop
from fastopt.optimizers.sgd import SGD, Momentum

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Momentum", "RMSprop"]
