"""The shapes of four models, from tiny to large."""

from __future__ import annotations

from fastopt._util.arrays import Shape


def digits_mlp() -> list[Shape]:
    """Return the shapes of the network of `fastopt.examples.digits`, with a smaller hidden layer."""
    return [(64, 128), (128,), (128, 10), (10,)]


def lenet() -> list[Shape]:
    """Return the shapes of LeNet-5."""
    convolutions: list[Shape] = [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,)]
    return [*convolutions, (400, 120), (120,), (120, 84), (84,), (84, 10), (10,)]


def resnet50() -> list[Shape]:
    """Return the shapes of ResNet-50."""

    def convolution(inputs: int, outputs: int, side: int) -> list[Shape]:
        return [(outputs, inputs, side, side), (outputs,), (outputs,)]  # with batch norm

    shapes: list[Shape] = convolution(3, 64, 7)
    inputs = 64
    for width, blocks in [(64, 3), (128, 4), (256, 6), (512, 3)]:
        for block in range(blocks):
            shapes += convolution(inputs, width, 1) + convolution(width, width, 3) + convolution(width, 4 * width, 1)
            if block == 0:
                shapes += convolution(inputs, 4 * width, 1)
            inputs = 4 * width
    return [*shapes, (1000, 2048), (1000,)]


def gpt2() -> list[Shape]:
    """Return the shapes of the smallest GPT-2."""
    d = 768
    norm: list[Shape] = [(d,), (d,)]
    attention: list[Shape] = [(d, 3 * d), (3 * d,), (d, d), (d,)]
    network: list[Shape] = [(d, 4 * d), (4 * d,), (4 * d, d), (d,)]
    return [(50257, d), (1024, d), *(12 * [*norm, *attention, *norm, *network]), *norm]


MODELS = {"digits MLP": digits_mlp(), "LeNet": lenet(), "ResNet-50": resnet50(), "GPT-2": gpt2()}
