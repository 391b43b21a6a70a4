"""Training with `fastopt.torch` in the ways that PyTorch offers: the losses are those with ``torch.optim``."""

from __future__ import annotations

import copy
import os
import subprocess
import sys

import numpy as np
import pytest
from processes import HANGS

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import parametrizations, prune  # noqa: E402
from torch_models import CLASSES, ONE_OF_EACH, PEERS, assert_params_agree, ids  # noqa: E402

import fastopt.torch  # noqa: E402

STEPS = 200


def mlp():
    return nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 64), nn.Tanh(), nn.Linear(64, 10))


def cnn():
    features = [nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*features, nn.Flatten(), nn.Linear(72, 10)).to(memory_format=torch.channels_last)


def pair_of(model):
    """Return two equal models."""
    torch.manual_seed(0)
    model = model().double()
    return model, copy.deepcopy(model)


def train(model, optimizer, steps, max_norm=None, scheduler=None, backward=torch.Tensor.backward, step=None):
    """Train on random data, and return the losses."""
    data, losses = torch.Generator().manual_seed(1), []
    for _ in range(steps):
        x = torch.randn(16, 64, generator=data, dtype=torch.float64)
        labels = torch.randint(10, (16,), generator=data)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), labels)
        backward(loss)
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        (step or optimizer.step)()
        if scheduler is not None:
            scheduler.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("model", [mlp, cnn])
@pytest.mark.parametrize(("name", "options"), ONE_OF_EACH, ids=ids(ONE_OF_EACH))
def test_losses_with_a_scheduler_and_clipping_are_those_of_torch_optim(name, options, model):
    """In float64, where rounding is too small to be magnified; max_grad_norm takes the place of clip_grad_norm_."""
    losses = []
    for makes, own, max_norm, extra in zip(
        (CLASSES, PEERS), pair_of(model), (None, 0.5), ({"max_grad_norm": 0.5}, {}), strict=True
    ):
        optimizer = makes[name](own.parameters(), **options, **extra)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)
        losses.append(train(own, optimizer, STEPS, max_norm, scheduler))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-9)
    assert np.mean(losses[0][-20:]) != np.mean(losses[0][:20])


def scaled_training(optimizer, model):
    """Train with an infinite gradient in the third step; return the losses, the final scale and the number of steps."""
    scaler, steps = torch.amp.GradScaler("cpu", init_scale=2.0**12), []

    def step():
        steps.append(None)
        if len(steps) == 3:
            model[0].weight.grad[0, 0] = torch.inf
        scaler.step(optimizer)
        scaler.update()

    losses = train(model, optimizer, 10, backward=lambda loss: scaler.scale(loss).backward(), step=step)
    return losses, scaler.get_scale(), optimizer.state[model[0].weight]["step"].item()


def test_grad_scaler_unscales_and_skips():
    makes = zip((CLASSES, PEERS), pair_of(mlp), strict=True)
    mine, theirs = (scaled_training(make["AdamW"](model.parameters()), model) for make, model in makes)
    np.testing.assert_allclose(mine[0], theirs[0], rtol=1e-9)
    assert mine[1:] == theirs[1:] == (2.0**11, 9)


def parametrized_mlp():
    model = mlp()
    parametrizations.weight_norm(model[0])
    parametrizations.orthogonal(model[2])
    return model


def test_parametrizations():
    makes = zip((CLASSES, PEERS), pair_of(parametrized_mlp), strict=True)
    losses = [train(model, make["Adam"](model.parameters(), lr=0.01), 20) for make, model in makes]
    np.testing.assert_allclose(*losses, rtol=1e-9)


def test_pruning_and_frozen_layers():
    results = []
    for makes, model in zip((CLASSES, PEERS), pair_of(mlp), strict=True):
        prune.l1_unstructured(model[0], "weight", 0.5)
        optimizer = makes["Adam"](model.parameters(), lr=0.01)
        model[2].requires_grad_(False)
        losses = train(model, optimizer, 5)
        model[2].requires_grad_(True)
        results.append(losses + train(model, optimizer, 5))
    np.testing.assert_allclose(*results, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", ["model", "step"])
def test_compiled_functions(compiled):
    """The optimizer runs outside of what is compiled."""
    model, other = pair_of(mlp)
    optimizer, peer = fastopt.torch.Adam(model.parameters(), lr=0.01), torch.optim.Adam(other.parameters(), lr=0.01)
    torch.compiler.reset()
    if compiled == "model":
        losses = train(torch.compile(model, backend="aot_eager"), optimizer, 5)
    else:
        losses = train(model, optimizer, 5, step=torch.compile(optimizer.step, backend="aot_eager"))
    np.testing.assert_allclose(losses, train(other, peer, 5), rtol=1e-9)


DISTRIBUTED = """
import os
import sys
sys.path[:0] = [{tests!r}]
import torch
from torch import nn
from torch.distributed.optim import ZeroRedundancyOptimizer
import fastopt.torch
from test_torch_training import mlp

rank, store, result = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group("gloo", init_method=f"file://{{store}}", rank=rank, world_size=2)
losses = []
for views in (False, True):
    for module in (fastopt.torch, torch.optim):
        torch.manual_seed(0)
        model = nn.parallel.DistributedDataParallel(mlp().double(), gradient_as_bucket_view=views)
        optimizer = module.AdamW(model.parameters(), lr=0.01)
        torch.manual_seed(rank + 1)
        for _ in range(5):
            optimizer.zero_grad(set_to_none=not views)
            x, labels = torch.randn(16, 64, dtype=torch.float64), torch.randint(10, (16,))
            nn.functional.cross_entropy(model(x), labels).backward()
            optimizer.step()
        losses.append(torch.cat([param.detach().ravel() for param in model.parameters()]))
model = mlp().double()
optimizer = ZeroRedundancyOptimizer(model.parameters(), fastopt.torch.Adam, lr=0.01)
for param in model.parameters():
    param.grad = torch.ones_like(param)
optimizer.step()
losses.append(torch.cat([param.detach().ravel() for param in model.parameters()]))
torch.save(losses, result)
torch.distributed.barrier()
os._exit(0)  # at a normal exit, a thread of gloo aborts the process now and then
"""


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch was built without torch.distributed")
def test_two_processes_with_gloo(tmp_path):
    tests = os.path.dirname(os.path.abspath(__file__))
    source = DISTRIBUTED.format(tests=tests)
    results = [tmp_path / f"result{rank}.pt" for rank in range(2)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", source, str(rank), str(tmp_path / "store"), str(results[rank])],
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=HANGS)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
    first, second = [torch.load(result, weights_only=True) for result in results]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    for mine, theirs in (first[:2], first[2:4]):
        assert_params_agree([mine], [theirs])
