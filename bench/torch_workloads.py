"""Workloads: training iterations of PyTorch with AdamW, a scheduler and, if asked for, clipping."""

from __future__ import annotations

import numpy as np
from workloads import Workload

OPTIMIZERS = ["fastopt.torch", "torch default", "torch foreach", "torch fused"]
ELEMENTS = {"perceptron": 669_706, "convolutional": 6_138, "100 x 64": 6_400}
MAX_NORM = 1.0
BATCH = 64
CHECKED_STEPS = 200
FLOAT64 = 1e-9  # deviation of a loss: rounding errors of 200 steps


def perceptron(nn):
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def convolutional(nn):
    layers = [nn.Unflatten(1, (1, 8, 8))]
    for inputs, outputs in ((1, 16), (16, 32)):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))


INPUTS = {"perceptron": 784, "convolutional": 64}


class Training(Workload):
    """Forward, backward, clip, step and schedule, always of the same batch."""

    def __init__(self, name, model, clip):
        self.arguments = name, model, clip
        self.build(*self.arguments)

    def build(self, name, model, clip, double=False):
        import torch

        torch.manual_seed(0)
        self.torch, self.clips, self.net = torch, clip and name != "fastopt.torch", None
        if model in INPUTS:
            self.net = {"perceptron": perceptron, "convolutional": convolutional}[model](torch.nn)
            self.net = self.net.double() if double else self.net
            self.params = list(self.net.parameters())
            self.x = torch.randn(BATCH, INPUTS[model], dtype=self.params[0].dtype)
            self.labels = torch.randint(10, (BATCH,))
        else:
            self.params = [torch.nn.Parameter(torch.randn(64)) for _ in range(100)]
            for param in self.params:
                param.grad = torch.randn(64)
        self.optimizer = self.make_optimizer(name, clip)
        self.scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=1_000)

    def make_optimizer(self, name, clip):
        if name == "fastopt.torch":
            import fastopt.torch

            return fastopt.torch.AdamW(self.params, max_grad_norm=MAX_NORM if clip else None)
        kind = name.removeprefix("torch ")
        options = {} if kind == "default" else {kind: True}
        return self.torch.optim.AdamW(self.params, **options)

    def iterate(self):
        loss = None
        if self.net is not None:
            self.optimizer.zero_grad()
            loss = self.torch.nn.functional.cross_entropy(self.net(self.x), self.labels)
            loss.backward()
        if self.clips:
            self.torch.nn.utils.clip_grad_norm_(self.params, MAX_NORM)
        self.optimizer.step()
        if self.net is not None:
            self.scheduler.step()
        return loss

    def check(self):
        """Compare the losses of 200 iterations in float64 with those of PyTorch's default, and start again."""
        name, model, clip = self.arguments
        if self.net is not None:
            losses = []
            for each in (name, "torch default"):
                self.build(each, model, clip, double=True)
                losses.append([self.iterate().item() for _ in range(CHECKED_STEPS)])
            np.testing.assert_allclose(*losses, rtol=FLOAT64, atol=FLOAT64)
            self.build(*self.arguments)
        return True
