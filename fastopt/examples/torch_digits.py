"""Train a perceptron and a small convolutional network of PyTorch on 1,797 handwritten digits.

``python -m fastopt.examples.torch_digits`` trains each network twice, with ``torch.optim.AdamW`` and with
`fastopt.torch.AdamW`, and prints losses, accuracies and the time of an iteration. One line differs: the class of the
optimizer. The two train in turns, a batch each, so that other programs slow down both alike.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

import fastopt.torch
from fastopt.examples import common, digits


def perceptron() -> nn.Module:
    """Return a network with two hidden layers and 105,294 parameters."""
    return nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 332), nn.ReLU(), nn.Linear(332, 10))


def convolutional() -> nn.Module:
    """Return a network with two convolutions, batch norm and 6,138 parameters."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 8, 8))]
    for inputs, outputs in ((1, 16), (16, 32)):
        conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10))


NETWORKS = {"perceptron": perceptron, "convolutional": convolutional}
OPTIMIZERS = {"torch.optim": torch.optim.AdamW, "fastopt.torch": fastopt.torch.AdamW}  # the line that differs


@dataclass
class Training:
    """A model in training, and the losses and times of its iterations."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    losses: list[float] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    def iterate(self, x: Tensor, labels: Tensor) -> None:
        """Train on a batch."""
        start = time.perf_counter()
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(x), labels)
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.times.append(time.perf_counter() - start)
        self.losses.append(loss.item())

    def accuracy(self, x: Tensor, labels: Tensor) -> float:
        """Return the fraction of images that are classified correctly."""
        self.model.eval()
        with torch.no_grad():
            correct = self.model(x).argmax(1) == labels
        self.model.train()
        return correct.float().mean().item()


def start(network: str, lr: float, steps: int, seed: int) -> dict[str, Training]:
    """Return a training for each optimizer, of models that are equal."""
    trainings = {}
    for name, cls in OPTIMIZERS.items():
        torch.manual_seed(seed)
        model = NETWORKS[network]()
        optimizer = cls(model.parameters(), lr=lr)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
        trainings[name] = Training(model, optimizer, scheduler)
    return trainings


def train(network: str, lr: float, batch_size: int, epochs: int, seed: int) -> dict[str, Training]:
    """Train with each optimizer, print a line for each, and return the trainings."""
    (images, labels), test = digits.split(seed)
    test_images, test_labels = map(torch.from_numpy, test)
    trainings = start(network, lr, epochs * -(-len(images) // batch_size), seed)
    for epoch in common.progress(iter(range(epochs)), epochs, "epoch"):
        for x, y in fastopt.batches(images, labels, batch_size=batch_size, seed=seed, epoch=epoch):
            for training in trainings.values():
                training.iterate(torch.from_numpy(x), torch.from_numpy(y))
    for name, training in trainings.items():
        accuracy, microseconds = training.accuracy(test_images, test_labels), np.median(training.times) * 1e6
        loss = np.mean(training.losses[-len(images) // batch_size :])
        common.write(f"{network:15}{name:15}{loss:9.6f}{accuracy:10.2%}{microseconds:15,.0f}")
    return trainings


def main(arguments: list[str] | None = None) -> None:
    """Read the command line and train."""
    parser = common.parser("torch_digits", "Train networks of PyTorch with its own and with fastopt's AdamW.")
    parser.add_argument("--lr", type=common.number(float, 0), default=0.005, help="highest rate; default: %(default)s")
    parser.add_argument("--batch-size", type=common.number(int, 2), default=32, help="default: %(default)s")
    parser.add_argument("--epochs", type=common.number(int, 1), default=20, help="default: %(default)s")
    parser.add_argument("--seed", type=common.number(int, 0, 2**32), default=0, help="default: %(default)s")
    options = parser.parse_args(arguments)
    common.write("network        optimizer           loss  accuracy  us / iteration")
    for network in NETWORKS:
        train(network, options.lr, options.batch_size, options.epochs, options.seed)


if __name__ == "__main__":
    main()
