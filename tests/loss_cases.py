"""The table of losses and options, and their arguments, for the tests of losses."""

from __future__ import annotations

import numpy as np

# id: (function, options, name in torch.nn.functional)
ELEMENTS = {
    "mse": ("mse", {}, "mse_loss"),
    "mae": ("mae", {}, "l1_loss"),
    "huber": ("huber", {}, "huber_loss"),
    "huber 0.3": ("huber", {"delta": 0.3}, "huber_loss"),
    "log_cosh": ("log_cosh", {}, None),
    "bce": ("binary_cross_entropy", {}, "binary_cross_entropy_with_logits"),
    "bce 3": ("binary_cross_entropy", {"pos_weight": 3.0}, "binary_cross_entropy_with_logits"),
    "bce weights": (
        "binary_cross_entropy",
        {"pos_weight": np.linspace(0.1, 4, 7)},
        "binary_cross_entropy_with_logits",
    ),
}
FOCAL = {
    "focal": {},
    "focal, not balanced": {"alpha": None},
    "focal 0": {"gamma": 0.0},
    "focal 0.5": {"gamma": 0.5, "alpha": 0.9},
    "focal 5": {"gamma": 5.0},
}
ELEMENTS.update({name: ("focal", options, None) for name, options in FOCAL.items()})
DICE = {
    "softmax": {},
    "softmax, batch": {"per_image": False},
    "softmax, squared": {"squared": True, "smooth": 0.0},
    "softmax, soft": {"soft": True},
    "sigmoid": {"from_logits": "sigmoid", "soft": True, "smooth": 0.1},
    "sigmoid, squared, batch": {"from_logits": "sigmoid", "squared": True, "per_image": False},
    "given": {"from_logits": None},
    "given, squared, soft": {"from_logits": None, "squared": True, "soft": True},
    "softmax, void": {"ignore_index": 255},
    "softmax, without class 0": {"ignore_index": 0, "squared": True},
    "sigmoid, void": {"from_logits": "sigmoid", "ignore_index": 255, "per_image": False},
    "given, void": {"from_logits": None, "ignore_index": 255},
}
WEIGHTS = np.linspace(0.2, 3, 11)
ROWS = {
    "labels": {},
    "smoothing": {"label_smoothing": 0.1},
    "weights": {"weight": WEIGHTS},
    "ignore": {"ignore_index": 3},
    "ignore -100": {"weight": WEIGHTS, "label_smoothing": 0.2, "ignore_index": -100},
    "probabilities": {"soft": True},
    "probabilities, all": {"soft": True, "weight": WEIGHTS, "label_smoothing": 0.3},
}
REDUCTIONS = ["mean", "sum", "none"]


def rows(options, real, shape=(23, 11), seed=0):
    """Return logits, a target and the options of the call."""
    rng = np.random.default_rng(seed)
    options = dict(options)
    logits = rng.normal(0, 3, shape).astype(real)
    if options.pop("soft", False):
        target = rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(real)
    else:
        target = rng.integers(0, shape[-1], shape[:-1])
        if options.get("ignore_index", 0) < 0:
            target.flat[::5] = -100
    return logits, target, options


def elements(real, shape=(23, 7), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(0, 2, shape).astype(real), rng.uniform(0, 1, shape).astype(real)


def pixels(options, real, shape, seed=0):
    """Return images, a target and the options of the call."""
    rng = np.random.default_rng(seed)
    options = dict(options)
    x = (
        rng.normal(0, 2, shape)
        if options.get("from_logits", "softmax")
        else rng.dirichlet(np.ones(shape[-1]), shape[:-1])
    )
    soft = options.pop("soft", False)
    target = rng.uniform(0, 1, shape).astype(real) if soft else rng.integers(0, max(shape[-1], 2), shape[:-1])
    if options.get("ignore_index") == 255:
        target.flat[::5] = 255
    return x.astype(real), target, options
