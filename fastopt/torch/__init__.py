"""`SGD`, `RMSprop`, `Adagrad`, `Adam` and `AdamW` for models of PyTorch on the CPU.

Each class is a ``torch.optim.Optimizer`` with the arguments and defaults of the class of that name in ``torch.optim``.
Change one line of a program::

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    optimizer = fastopt.torch.AdamW(model.parameters(), lr=1e-3)

The step works in the memory of the parameters and reads and writes each array once, however many parameters there are:

>>> import torch, fastopt.torch
>>> model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1))
>>> optimizer = fastopt.torch.Adam(model.parameters(), lr=0.01, max_grad_norm=1.0, zero_grads=True)
>>> x = torch.randn(32, 8)
>>> for _ in range(3):
...     loss = model(x).square().mean()
...     loss.backward()
...     optimizer.step()  # clips, updates and sets the gradients to zero in one pass
>>> optimizer.grad_norm > 0
True

**What stays the same.** Parameter groups, ``torch.optim.lr_scheduler``, closures, hooks, ``zero_grad``, ``state`` and
``state_dict``, ``torch.save``, deepcopy and pickle, ``GradScaler``, ``clip_grad_norm_``, ``DistributedDataParallel``.
``state_dict`` has PyTorch's format: it can be loaded into the class of ``torch.optim``, and the reverse. Results are
those of ``torch.optim`` up to rounding, and the same bits on every processor and for every number of threads.

**What is different.**

- Parameters are on the CPU, of float32 or float64, and dense with the axes in any order. Others raise, as do parameters
  that overlap in memory: an array cannot be updated twice in one step.
- Gradients of another layout or dtype than their parameter are copied first. Sparse gradients raise.
- ``capturable=True`` and ``differentiable=True`` raise. ``foreach`` and ``fused`` have no effect.
- Momenta, ``alpha`` and ``betas`` are below 1, and ``dampening`` requires a momentum.
- The first step, and the next one after a change of parameters or states, copies the states into memory of its own and
  puts the new tensors into ``state``. States that were moved to shared memory are no longer shared after that.

**Weight averages.** ``ema_decay`` keeps a moving average of each parameter that has had a gradient. It is part of the
state and of ``state_dict``. Evaluate a model with the averages by ``torch.func.functional_call``:

>>> optimizer = fastopt.torch.Adam(model.parameters(), ema_decay=0.9)
>>> model(x).sum().backward()
>>> optimizer.step()
>>> averages = {name: optimizer.state[p]["ema"] for name, p in model.named_parameters()}
>>> torch.func.functional_call(model, averages, (x,)).shape
torch.Size([32, 1])
"""

from fastopt.torch._rules import SGD, Adagrad, Adam, AdamW, RMSprop

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RMSprop"]
