"""Refused arguments of layers and the L2 penalty."""

from __future__ import annotations

import numpy as np

from fastopt.layers import BatchNormCache, batch_norm, batch_norm_backward, dropout, l2_penalty

X, C, G = np.ones((4, 3), np.float32), np.ones(3, np.float32), np.ones((4, 3), np.float32)
MEAN, VAR = np.zeros(3, np.float32), np.ones(3, np.float32)
BUFFER, WIDE, BYTES = np.ones(9, np.float32), np.ones(6, np.float32), np.ones((4, 3), np.uint8)
CACHE = batch_norm(X, C, C)[1]
NOT_LIST = "must be an array of float32 or float64, got 'list'"
RUNNING = "running_mean and running_var "


def changed(**attributes):
    return BatchNormCache(**{**vars(CACHE), **attributes})


REFUSALS = [
    (lambda: dropout([1.0], 0.5, seed=0, step=0), TypeError, f"x {NOT_LIST}"),
    (lambda: dropout(BYTES, 0.5, seed=0, step=0), TypeError, "x must have dtype float32 or float64, got uint8"),
    (lambda: dropout(X[:, ::2], 0.5, seed=0, step=0, out=X[:, ::2]), ValueError, "out must be C-contiguous, got ..."),
    (
        lambda: dropout(np.ma.array(X[:, ::2]), 0.5, seed=0, step=0),
        TypeError,
        "x must be an array without a mask, got a masked array",
    ),
    (lambda: dropout(X, 1.0, seed=0, step=0), ValueError, "p must be a number in [0, 1), got 1.0"),
    (lambda: dropout(X, 0.5, seed=-1, step=0), ValueError, "seed must be an int from 0 to 2**64 - 1, got -1"),
    (lambda: dropout(X, 0.5, seed=0, step=0.5), TypeError, "step must be an int from 0 to 2**53 - 1, got 0.5"),
    (lambda: dropout(X, 0.5, seed=0, step=0, out=X[:2]), ValueError, "out must have shape (4, 3) like x, got (2, 3)"),
    (lambda: batch_norm(X[0], C, C), ValueError, "x must have shape (N, ..., C), got (3,)"),
    (lambda: batch_norm(X[:1], C, C), ValueError, "x must have at least two rows in training, got shape (1, 3)"),
    (
        lambda: batch_norm(X, C[:2], C),
        ValueError,
        "weight must have shape (3,), an element per channel of x, got (2,)",
    ),
    (lambda: batch_norm(X, C, 1.0), ValueError, "bias must have shape (3,), an element per channel of x, got ()"),
    (lambda: batch_norm(X, C, ["1"] * 3), TypeError, "bias must be real numbers, got 'list' of dtype <U1"),
    (lambda: batch_norm(X, C * 1j, C), TypeError, "weight must be real numbers, got 'ndarray' of dtype complex64"),
    (
        lambda: batch_norm(X, [0, 1e39, 0], C),
        ValueError,
        "weight must be within the range of float32, got ... 1",
    ),
    (lambda: batch_norm(X, np.ma.array(C), C), TypeError, "weight must be an array without a mask, got a masked array"),
    (lambda: batch_norm(X, C, C, MEAN.tolist(), VAR), TypeError, f"running_mean {NOT_LIST}"),
    (
        lambda: batch_norm(X, C, C, MEAN, VAR.astype(float)),
        TypeError,
        "running_var must have dtype float32, got float64",
    ),
    (
        lambda: batch_norm(X, C, C, MEAN, WIDE[::2]),
        ValueError,
        "running_var must be C-contiguous, got shape (3,) with strides (8,) bytes",
    ),
    (
        lambda: batch_norm(X, C, C, MEAN),
        TypeError,
        RUNNING + "must both be arrays, or both None, got running_var None",
    ),
    (
        lambda: batch_norm(X, C, C, training=False),
        TypeError,
        RUNNING + "must be arrays unless training, got running_mean None",
    ),
    (lambda: batch_norm(X, C, C, MEAN, MEAN), ValueError, RUNNING + "overlap in memory"),
    (lambda: batch_norm(X, C, C, BUFFER[:3], BUFFER[1:4]), ValueError, RUNNING + "overlap in memory"),
    (lambda: batch_norm(X, C, C, C, VAR), ValueError, "running_mean and weight overlap in memory"),
    (lambda: batch_norm(X, C, C, out=[1.0]), TypeError, f"out {NOT_LIST}"),
    (lambda: batch_norm(X, C, C, out=np.ones((3, 4), "f").T), ValueError, "out must be C-contiguous, got ..."),
    (lambda: batch_norm(X, C, C, out=X), ValueError, "out and x overlap in memory"),
    (
        lambda: batch_norm(X, C, C, MEAN, VAR, out=np.ones((4, 3))),
        TypeError,
        "out must have dtype float32 like x, got float64",
    ),
    (lambda: batch_norm(X, C, C, MEAN, VAR, eps=0.0), ValueError, "eps must be a finite number > 0, got 0.0"),
    (lambda: batch_norm(X, C, C, MEAN, VAR, momentum=1.5), ValueError, "momentum must be a number in [0, 1], got 1.5"),
    (lambda: batch_norm(X, C, C, MEAN, VAR, training=1), ValueError, "training must be True or False, got 1"),
    (
        lambda: batch_norm_backward(G, None),
        TypeError,
        "cache must be the BatchNormCache that batch_norm returned, got 'NoneType'",
    ),
    (lambda: batch_norm_backward(G[:2], CACHE), ValueError, "grad must have shape (4, 3) like x, got (2, 3)"),
    (lambda: batch_norm_backward(G[0], CACHE), ValueError, "grad must have shape (4, 3) like x, got (3,)"),
    (lambda: batch_norm_backward(G.astype(str), CACHE), TypeError, "grad must be real numbers, got 'ndarray' of ..."),
    (lambda: batch_norm_backward(G, CACHE, out=X), ValueError, "out and x overlap in memory"),
    (lambda: batch_norm_backward(G, CACHE, out=[1.0], grad_bias=MEAN), TypeError, f"out {NOT_LIST}"),
    (
        lambda: batch_norm_backward(G, CACHE, grad_weight=G[0]),
        ValueError,
        "grad_weight and grad overlap in memory",
    ),
    (
        lambda: batch_norm_backward(G, CACHE, grad_weight=MEAN, grad_bias=MEAN),
        ValueError,
        "grad_weight and grad_bias overlap in memory",
    ),
    (
        lambda: batch_norm_backward(G, CACHE, grad_weight=CACHE.scale),
        ValueError,
        "grad_weight and cache.scale overlap in memory",
    ),
    (
        lambda: batch_norm_backward(G, CACHE, grad_bias=CACHE.mean),
        ValueError,
        "grad_bias and cache.mean overlap in memory",
    ),
    (
        lambda: batch_norm_backward(G.reshape(3, 4), changed(x=X.reshape(3, 4))),
        ValueError,
        "cache.mean must have shape (4,), an element per channel of x, got (3,)",
    ),
    (
        lambda: batch_norm_backward(G, changed(inverse_std=C)),
        TypeError,
        "cache.inverse_std must have dtype float64, got float32",
    ),
    (
        lambda: batch_norm_backward(G[:0], changed(x=X[:0])),
        ValueError,
        "cache.x must have at least two rows in training, got shape (0, 3)",
    ),
    (
        lambda: batch_norm_backward(G, changed(x=np.array(1.0, np.float32))),
        ValueError,
        "cache.x must have shape (N, ..., C), got ()",
    ),
    (
        lambda: batch_norm_backward(G, changed(x=None)),
        TypeError,
        "cache.x must be an array of float32 or float64, got 'NoneType'",
    ),
    (
        lambda: batch_norm_backward(G, changed(training="no")),
        ValueError,
        "cache.training must be True or False, got 'no'",
    ),
    (lambda: l2_penalty(X, 1e39), ValueError, "2 lam must be within the range of float32, got 2e+39"),
    (lambda: l2_penalty(X, -1.0), ValueError, "lam must be a finite number >= 0, got -1.0"),
    (lambda: l2_penalty([1.0], 1.0), TypeError, "params[0] must be an array of float32 or float64, got 'float'"),
    (lambda: l2_penalty(X[:, ::2], 1.0, G[:, ::2]), ValueError, "grads must be C-contiguous, got ..."),
    (lambda: l2_penalty([X, G], 1.0, [G]), ValueError, "grads must have 2 items like the parameters, got 1"),
    (lambda: l2_penalty([X, X], 1.0, [G, G.copy()]), ValueError, "params[0] and params[1] overlap in memory"),
    (lambda: l2_penalty([X, X + 1], 1.0, [G, G]), ValueError, "grads[0] and grads[1] overlap in memory"),
    (lambda: l2_penalty([X, C], 1.0, [G, C]), ValueError, "grads[1] and params[1] overlap in memory"),
    (
        lambda: l2_penalty({"w": X}, 1.0, {"w": X.astype(float)}),
        TypeError,
        "grads['w'] must have dtype float32 like params['w'], got float64",
    ),
]
