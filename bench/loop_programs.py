"""The programs, and the lines that move them to fastopt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import loop_data as data
from loop_edits import Edit, Recorded, Timed


@dataclass(frozen=True)
class Program:
    """A public program: where it is, how it is run, and what is changed.

    ``commit`` may be a tag. ``script`` runs in its own folder, for ``steps`` steps of its training loop. ``fixes`` are
    edits without which it does not run here; the program is compared after them. ``dtype`` is that of its parameters.
    """

    repository: str
    commit: str
    license: str
    script: str
    prepare: Callable
    steps: int
    dtype: str
    recorded: Recorded
    before: Timed
    after: Timed
    edits: tuple[Edit, ...]
    arguments: tuple[str, ...] = ()
    fixes: tuple[Edit, ...] = ()
    paths: tuple[str, ...] = ()  # that it needs, if not the whole repository


SCRATCH = "ch06/optimizer_compare_mnist.py"
TRAINER = "common/trainer.py"
DEZERO = "examples/mnist.py"
AUTOGRAD = "examples/neural_net.py"
NNFS = "Chapter_19/Ch19_Final.py"
ML_FROM_SCRATCH = "mlfromscratch/deep_learning/optimizers.py"
ES = "simple_es_example.py"
SKLEARN = "examples/neural_networks/plot_mlp_training_curves.py"
THINC = "examples/mnist.py"
LANGUAGE_MODEL = "word_language_model/main.py"
REINFORCE = "reinforcement_learning/reinforce.py"

PROGRAMS = {
    "scratch-mlp": Program(
        repository="oreilly-japan/deep-learning-from-scratch",
        commit="07b11618cdb5d5f78ad45464de0730efc07b0a4a",
        license="MIT",
        script=SCRATCH,
        prepare=data.scratch,
        steps=150,
        dtype="float64",
        recorded=Recorded(SCRATCH, "train_loss[key].append(loss)", "loss"),
        before=Timed(SCRATCH, "optimizers[key].update(", calls=4),
        after=Timed(SCRATCH, "optimizers[key].step(", calls=4),
        edits=(
            Edit(SCRATCH, "from common.optimizer import *", "import fastopt\nfrom common.optimizer import *"),
            Edit(
                SCRATCH,
                "optimizers['SGD'] = ",
                """
                optimizers['SGD'] = lambda params: fastopt.SGD(params, lr=0.01)
                optimizers['Momentum'] = lambda params: fastopt.Momentum(params, lr=0.01)
                optimizers['AdaGrad'] = lambda params: fastopt.Adagrad(params, lr=0.01, eps=1e-7)
                optimizers['Adam'] = lambda params: fastopt.Adam(params, eps=1e-7, eps_hat=True)
                """,
                lines=4,
            ),
            Edit(
                SCRATCH,
                "train_loss[key] = []",
                "train_loss[key] = []\noptimizers[key] = optimizers[key](networks[key].params)",
            ),
            Edit(SCRATCH, "optimizers[key].update(", "optimizers[key].step(grads)"),
        ),
    ),
    "scratch-convnet": Program(
        repository="oreilly-japan/deep-learning-from-scratch",
        commit="07b11618cdb5d5f78ad45464de0730efc07b0a4a",
        license="MIT",
        script="ch07/train_convnet.py",
        prepare=data.scratch,
        steps=12,
        dtype="float64",
        recorded=Recorded(TRAINER, "self.train_loss_list.append(loss)", "loss"),
        before=Timed(TRAINER, "self.optimizer.update("),
        after=Timed(TRAINER, "self.optimizer.step("),
        edits=(
            Edit(TRAINER, "from common.optimizer import *", "import fastopt"),
            Edit(
                TRAINER,
                "optimizer_class_dict = ",
                """
                self.optimizer = fastopt.Adam(
                    network.params, eps=1e-7, eps_hat=True, convert_grads=True, **optimizer_param)
                """,
                lines=3,
            ),
            Edit(TRAINER, "self.optimizer.update(", "self.optimizer.step(grads)"),
        ),
    ),
    "dezero": Program(
        repository="oreilly-japan/deep-learning-from-scratch-3",
        commit="b5f3cf12a9e4ed84fc97b57bf41a25610d69c9e5",
        license="MIT",
        script=DEZERO,
        prepare=data.idx(".dezero"),
        steps=100,
        dtype="float32",
        recorded=Recorded(DEZERO, "loss.backward()", "loss.data"),
        before=Timed(DEZERO, "optimizer.update()"),
        after=Timed(DEZERO, "optimizer.step("),
        edits=(
            Edit(DEZERO, "import dezero.functions as F", "import dezero.functions as F\nimport fastopt"),
            Edit(
                DEZERO,
                "optimizer = dezero.optimizers.Adam()",
                """
                model(train_set[0][0].reshape(1, -1))  # allocates the weights
                optimizer = fastopt.Adam(
                    [p.data for p in model.params()], weight_decay=1e-4, eps_hat=True, convert_grads=True)
                """,
                lines=2,
            ),
            Edit(DEZERO, "optimizer.update()", "optimizer.step([p.grad.data for p in model.params()])"),
        ),
    ),
    "autograd": Program(
        repository="HIPS/autograd",
        commit="bff107b8d71a444a1160deade3e1cbd0b92f4fa6",
        license="MIT",
        script=AUTOGRAD,
        prepare=data.idx("examples/data"),
        steps=200,
        dtype="float64",
        recorded=Recorded(AUTOGRAD, "if iter % num_batches == 0:", "np.linalg.norm(params[0][0])"),
        before=Timed("autograd/misc/optimizers.py", "m = (1 - b1) * g", "x = x - step_size * mhat"),
        after=Timed(AUTOGRAD, "optimizer.step("),
        edits=(
            Edit(AUTOGRAD, "from autograd.misc.optimizers import adam", "import fastopt"),
            Edit(
                AUTOGRAD,
                "optimized_params = adam(",
                """
                optimizer = fastopt.Adam(init_params, lr=step_size)
                for iter in range(num_epochs * num_batches):
                    gradient = objective_grad(init_params, iter)
                    print_perf(init_params, iter, gradient)
                    optimizer.step(gradient)
                """,
                lines=7,
            ),
        ),
    ),
    "nnfs": Program(
        repository="Sentdex/nnfs_book",
        commit="9cf2fc482985d5bc68c736a49aa0624b6ab13fb1",
        license="MIT",
        script=NNFS,
        prepare=data.nnfs,
        steps=200,
        dtype="float32",
        recorded=Recorded(NNFS, "self.backward(output, batch_y)", "loss"),
        before=Timed(NNFS, "self.optimizer.pre_update_params()", "self.optimizer.post_update_params()"),
        after=Timed(NNFS, "self.optimizer.step("),
        edits=(
            Edit(NNFS, "import nnfs", "import fastopt\nimport nnfs"),
            Edit(
                NNFS,
                "self.optimizer.pre_update_params()",
                "self.optimizer.step([[layer.dweights, layer.dbiases] for layer in self.trainable_layers])",
                lines=4,
            ),
            Edit(NNFS, "f'lr: {self.optimizer.current_learning_rate}')", "f'lr: {self.optimizer.lr}')", count=2),
            Edit(
                NNFS,
                "optimizer=Optimizer_Adam(decay=1e-3),",
                """
                optimizer=fastopt.Adam(
                    [[layer.weights, layer.biases] for layer in model.layers if hasattr(layer, 'weights')],
                    lr=fastopt.schedules.InverseTimeDecay(1e-3, 1e-3), eps=1e-7),
                """,
            ),
        ),
    ),
    "ml-from-scratch": Program(
        repository="eriklindernoren/ML-From-Scratch",
        commit="a2806c6732eee8d27762edd6d864e0c179d8e9e8",
        license="MIT",
        script="mlfromscratch/examples/multilayer_perceptron.py",
        prepare=data.none,
        steps=60,
        dtype="float64",
        recorded=Recorded("mlfromscratch/deep_learning/neural_network.py", "batch_error.append(loss)", "loss"),
        before=Timed(call="mlfromscratch.deep_learning.optimizers:Adam.update", calls=10),
        after=Timed(call="mlfromscratch.deep_learning.optimizers:Adam.update", calls=10),
        edits=(
            Edit(ML_FROM_SCRATCH, "import numpy as np", "import fastopt\nimport numpy as np"),
            # Its bias correction is that of the first step for good; the rate takes back what Adam's would change.
            Edit(
                ML_FROM_SCRATCH,
                "def __init__(self, learning_rate=0.001, b1=0.9, b2=0.999):",
                """
                def __init__(self, learning_rate=0.001, b1=0.9, b2=0.999):
                    scale = learning_rate / (1 - b1) * np.sqrt(1 - b2)
                    rate = lambda t: scale * (1 - b1 ** (t + 1)) / np.sqrt(1 - b2 ** (t + 1))
                    eps = 1e-8 * np.sqrt(1 - b2)
                    self.rule = fastopt.Keyed(
                        fastopt.Adam, copy=True, lr=rate, betas=(b1, b2), eps=eps, eps_hat=True)

                def update(self, w, grad_wrt_w):
                    return self.rule(id(self), w, grad_wrt_w)
                """,
                lines=25,
            ),
        ),
    ),
    "estool": Program(
        repository="hardmaru/estool",
        commit="b0954523e906d852287c6f515f34756c550ccf42",
        license="MIT",
        script=ES,
        paths=("es.py", "simple_es_example.ipynb"),
        prepare=data.notebook("simple_es_example.ipynb"),
        steps=150,
        dtype="float64",
        recorded=Recorded(ES, "solver.tell(fitness_list)", "fitness_list.mean()"),
        before=Timed(call="es:Adam.update"),
        after=Timed(call="es:Adam.update"),
        # Only OpenAI's strategy is run; cma would seed NumPy with the time.
        fixes=(
            Edit(ES, "import cma", ""),
            Edit(ES, "cmaes = CMAES(", "", lines=5),
            *(Edit(ES, f"{name}_history = test_solver(", "") for name in ("ga", "cma", "pepg")),
        ),
        edits=(
            Edit("es.py", "import numpy as np", "import fastopt\nimport numpy as np"),
            Edit(
                "es.py",
                "self.beta1 = beta1",
                """
                self.step = np.zeros(self.dim)
                self.rule = fastopt.Adam(self.step, betas=(beta1, beta2), eps=self.epsilon, eps_hat=True)
                """,
                lines=4,
            ),
            Edit(
                "es.py",
                "a = self.stepsize * np.sqrt(1 - self.beta2 ** self.t)",
                """
                self.step[:] = 0  # from 0, the optimizer moves to the step, which the base class adds
                self.rule.lr = self.stepsize
                self.rule.step(globalg)
                return self.step
                """,
                lines=5,
            ),
        ),
    ),
    "sklearn": Program(
        repository="scikit-learn/scikit-learn",
        commit="1.9.1",
        license="BSD-3-Clause",
        script=SKLEARN,
        paths=("examples/neural_networks",),
        prepare=data.none,
        steps=10_000,  # all of it
        dtype="float64",
        recorded=Recorded(SKLEARN, "mlps.append(mlp)", "mlp.loss_"),
        before=Timed(call="sklearn.neural_network._stochastic_optimizers:BaseOptimizer.update_params"),
        after=Timed(call="fastopt.sklearn:_Solver.update_params"),
        edits=(
            Edit(
                SKLEARN,
                "from sklearn.neural_network import MLPClassifier",
                "from fastopt.sklearn import MLPClassifier",
            ),
        ),
    ),
    "thinc": Program(
        repository="explosion/thinc",
        commit="20eec35566997d5272d083be1f1a0ec9006934ff",
        license="MIT",
        script=THINC,
        paths=("examples/mnist.py",),
        prepare=data.keras,
        steps=100,
        dtype="float32",
        recorded=Recorded(THINC, "backprop(Yh - Y)", "abs(Yh - Y).sum()"),
        before=Timed(THINC, "model.finish_update(optimizer)"),
        after=Timed(THINC, "model.finish_update(optimizer)"),
        edits=(
            Edit(
                THINC,
                "from thinc.api import Model, chain, Relu, Softmax, Adam",
                "from thinc.api import Model, chain, Relu, Softmax\nfrom fastopt.thinc import Adam",
            ),
        ),
    ),
    "torch-language-model": Program(
        repository="pytorch/examples",
        commit="77f55b912142e11fcfdf5b530231fb9c52f181e8",
        license="BSD-3-Clause",
        script=LANGUAGE_MODEL,
        paths=(
            *(f"word_language_model/{name}.py" for name in ("main", "model", "data")),
            *(f"word_language_model/data/wikitext-2/{name}.txt" for name in ("valid", "test")),
        ),
        prepare=data.wikitext,
        arguments=("--use-optimizer", "--lr", "1e-3"),
        steps=6,
        dtype="float32",
        recorded=Recorded(LANGUAGE_MODEL, "loss.backward()", "loss"),
        before=Timed(LANGUAGE_MODEL, "optimizer.step()"),
        after=Timed(LANGUAGE_MODEL, "optimizer.step()"),
        edits=(
            Edit(LANGUAGE_MODEL, "import torch.onnx", "import torch.onnx\nimport fastopt.torch"),
            Edit(
                LANGUAGE_MODEL,
                "optimizer = torch.optim.AdamW(",
                "optimizer = fastopt.torch.AdamW(model.parameters(), lr=args.lr)",
            ),
        ),
    ),
    "torch-reinforce": Program(
        repository="pytorch/examples",
        commit="77f55b912142e11fcfdf5b530231fb9c52f181e8",
        license="BSD-3-Clause",
        script=REINFORCE,
        paths=("reinforcement_learning",),
        prepare=data.none,
        steps=60,
        dtype="float32",
        recorded=Recorded(REINFORCE, "policy_loss.backward()", "policy_loss"),
        before=Timed(REINFORCE, "optimizer.step()"),
        after=Timed(REINFORCE, "optimizer.step()"),
        edits=(Edit(REINFORCE, "import torch.optim as optim", "import fastopt.torch as optim"),),
    ),
}
