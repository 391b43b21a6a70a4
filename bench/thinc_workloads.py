"""Workloads of thinc and spaCy. They are built and run in a worker."""

from __future__ import annotations

import numpy as np

from fastopt._bench.workloads import Workload, normal_values

BATCH, INPUTS, CLASSES = 128, 784, 10
BETAS = {"beta1": 1 - 2**-4, "beta2": 1 - 2**-10}  # thinc forms 1 - beta in float32, where these are exact
RATE, STEPS = 1e-3, 3


def adam(name, **options):
    """Return thinc's Adam, or fastopt's for thinc."""
    if name == "thinc":
        import thinc.optimizers as module
    else:
        import fastopt.thinc as module
    return module.Adam(RATE, **options)


class FinishUpdate(Workload):
    """``model.finish_update`` of a network with two hidden layers, with thinc's default options."""

    def __init__(self, name, hidden, averages):
        from thinc.api import Relu, Softmax, chain, fix_random_seed

        fix_random_seed(0)
        self.x = normal_values((BATCH, INPUTS), 0, 1.0)
        self.labels = np.eye(CLASSES, dtype=np.float32)[np.arange(BATCH) % CLASSES]
        self.model = chain(Relu(hidden), Relu(hidden), Softmax(CLASSES)).initialize(self.x, self.labels)
        self.optimizer = adam(name, use_averages=averages, **BETAS)
        self.arrays = [(node, array) for node in self.model.walk() for array in node.param_names]
        shapes = [node.get_param(array).shape for node, array in self.arrays]
        shapes = [node.get_param(array).shape for node, array in self.arrays]
        self.grads = [normal_values(shape, i, 1e-2) for i, shape in enumerate(shapes)]
        self.call = lambda: self.model.finish_update(self.optimizer)

    def prepare(self):
        """Fill the gradients, as a backward pass would."""
        for (node, array), grad in zip(self.arrays, self.grads, strict=True):
            node.set_grad(array, grad.copy())

    def check(self):
        """Return whether three steps agree with the formula in float64, and the gradients are zero then."""
        before = [node.get_param(array).astype(float) for node, array in self.arrays]
        for _ in range(STEPS):
            self.prepare()
            self.call()
        zero = all(not node.get_grad(array).any() for node, array in self.arrays)
        return zero and all(
            np.allclose(node.get_param(array), expected(param, grad), rtol=0, atol=1e-6)
            for (node, array), param, grad in zip(self.arrays, before, self.grads, strict=True)
        )


def expected(param, grad):
    """Return a parameter after steps with one gradient: the averages of Adam are then constant but for their bias."""
    grad = grad.astype(float) * min(1.0, 1.0 / np.linalg.norm(grad.astype(float)))
    for step in range(1, STEPS + 1):
        root = np.sqrt(1 - BETAS["beta2"] ** step)
        param = param - RATE * grad / (np.abs(grad) + 1e-8 / root)
    return param


class Iteration(FinishUpdate):
    """A training iteration of the same network: forward, backward, ``finish_update``."""

    def __init__(self, name, hidden, averages):
        super().__init__(name, hidden, averages)
        self.call = self.train

    def train(self):
        prediction, backprop = self.model.begin_update(self.x)
        backprop((prediction - self.labels) / BATCH)
        self.model.finish_update(self.optimizer)
        self.optimizer.step_schedules()

    def prepare(self):
        """Nothing is to be restored."""

    def check(self):
        """Return whether training reduces the loss of its batch."""
        losses = []
        for _ in range(20):
            self.train()
            losses.append(-np.log(self.model.predict(self.x)[self.labels > 0]).mean())
        return bool(losses[-1] < 0.8 * losses[0])


class Tagger(Workload):
    """A training step of spaCy's tagger on the Greek New Testament, with the options of its default config."""

    def __init__(self, name, words):
        import spacy
        from spacy.training import Example
        from thinc.api import fix_random_seed

        from fastopt.examples.spacy_tagger import verses

        fix_random_seed(0)
        self.nlp = spacy.blank("grc")
        self.nlp.add_pipe("tagger")
        examples, count = [], 0
        for text, tags in verses():
            examples.append(Example.from_dict(spacy.tokens.Doc(self.nlp.vocab, words=text), {"tags": tags}))
            count += len(text)
            if count >= words:
                break
        self.nlp.initialize(lambda: examples)
        optimizer = adam(name, L2=0.01, grad_clip=1.0, L2_is_weight_decay=True, use_averages=False)

        def step():
            losses = self.nlp.update(examples, sgd=optimizer)
            optimizer.step_schedules()
            return losses["tagger"]

        self.call = step

    def check(self):
        """Return whether training reduces the loss of its batch."""
        losses = [self.call() for _ in range(20)]
        return bool(losses[-1] < 0.8 * losses[0])
