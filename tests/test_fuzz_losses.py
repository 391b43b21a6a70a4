"""Losses, layers and augmentation: the bits of the reference, or a refusal that changes no byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import REALS, Scene, fuzz, leaves, things, with_out

import fastopt
from fastopt import layers, losses, reference

# Losses


def of_elements(scene, **options):
    shape, dtype = scene.shape(), scene.pick(REALS)
    return {"x": scene.reals(shape, dtype), "target": scene.reals(shape, dtype), **options}


def of_logits(scene, **options):
    shape, dtype = scene.shape(), scene.pick(REALS)
    target = scene.reals(shape, dtype, ["probabilities", "probabilities", "edges"])
    return {"logits": scene.reals(shape, dtype), "target": target, **options}


def of_classes(scene, name, shape, ignored=None):
    """Give predictions with the classes last, and either kind of target."""
    dtype, classes = scene.pick(REALS), shape[-1]
    x = scene.reals(shape, dtype)
    if scene.pick([True, False]):
        return {name: x, "target": scene.reals(shape, dtype, ["probabilities", "probabilities", "edges"])}
    rng = np.random.default_rng(scene.integer(99))
    labels = rng.integers(0, classes, shape[:-1])
    if ignored is not None:
        labels = np.where(rng.random(labels.shape) < 0.2, ignored, labels)
    return {name: x, "target": scene.array(labels.astype(scene.pick(["i8", "i8", "i4"])))}


def positive(scene, classes, dtype):
    """Give weights of classes, a number or None."""
    weights = scene.array(np.random.default_rng(scene.integer(99)).uniform(0.1, 3, classes).astype(dtype))
    return scene.pick([None, weights, weights])


def mse(scene):
    return of_elements(scene)


def huber(scene):
    return of_elements(scene, delta=scene.number(1e-3, 1e3))


def binary_cross_entropy(scene):
    arguments = of_logits(scene)
    x = arguments["logits"]
    weight = scene.pick([None, scene.number(0, 9), positive(scene, x.shape[-1] if x.ndim else 1, x.dtype)])
    return {**arguments, "pos_weight": weight}


def focal(scene):
    return of_logits(scene, gamma=scene.pick([0.0, 0.5, 2.0, 5.0]), alpha=scene.pick([None, scene.number(0, 1)]))


def cross_entropy(scene):
    classes = scene.pick([1, 2, 15, 16, 17, 64, 65, 257, 4097])
    rows = scene.pick([(), (0,), (1,), (5,), (2, 3)] if classes > 99 else [(), (0,), (17,), (3, 0), (65,), (2, 3, 5)])
    ignored = scene.pick([-100, 0, 3, -(2**53)])
    arguments = of_classes(scene, "logits", (*rows, classes), ignored)
    weight = positive(scene, classes, arguments["logits"].dtype)
    return {**arguments, "weight": weight, "ignore_index": ignored, "label_smoothing": scene.number(0, 1)}


def dice(scene):
    classes = scene.pick([1, 2, 16, 17, 65, 4097])
    shapes = (
        [(0,), (1,), (2, 0), (1, 5)] if classes > 99 else [(0,), (3,), (2, 0), (2, 65), (1, 4097 // classes), (2, 3, 5)]
    )
    options = {"from_logits": scene.pick([None, "softmax", "sigmoid"]), "smooth": scene.pick([0.0, 1.0, 1e-3])}
    flags = {"squared": scene.pick([False, True]), "per_image": scene.pick([False, True])}
    return {**of_classes(scene, "x", (*scene.pick(shapes), classes)), **options, **flags}


LOSSES = {"mse": mse, "mae": mse, "log_cosh": mse, "huber": huber, "binary_cross_entropy": binary_cross_entropy}
LOSSES |= {"focal": focal, "cross_entropy": cross_entropy, "dice": dice}


@pytest.mark.parametrize("name", LOSSES)
@fuzz
@given(st.data())
def test_losses(name, data):
    scene = Scene(data)
    good = LOSSES[name](scene)
    x = next(iter(good.values()))
    good = with_out(scene, {**good, "reduction": scene.pick(["mean", "sum", "none"])}, x, [x])
    arguments = scene.spoil(dict(good))

    scene.check(getattr(losses, name), getattr(reference.losses, name), arguments, good, ["out"])


# Layers


@fuzz
@given(st.data())
def test_dropout(data):
    scene = Scene(data)
    x = scene.reals(scene.shape(3), scene.pick(REALS))
    good = {"x": x, "p": scene.number(0, 0.999), "seed": scene.integer(2**64 - 1), "step": scene.integer(2**53 - 1)}
    good = with_out(scene, good, x, [x])
    scene.check(layers.dropout, reference.layers.dropout, scene.spoil(dict(good)), good, ["out"])


def batch_norm(**arguments):
    y, s = layers.batch_norm(**arguments)
    return y, (s.x, s.mean, s.scale, s.inverse_std, s.training)


def wanted_batch_norm(x, weight, bias, running_mean=None, running_var=None, training=True, **options):
    if x.shape[-1]:
        return reference.layers.batch_norm(x, weight, bias, running_mean, running_var, training=training, **options)
    return x, (x, bias, weight, bias.astype(np.float64), training)  # no channels, which the reference can't count


@fuzz
@given(st.data())
def test_batch_norm(data):
    scene = Scene(data)
    columns, training = scene.pick([0, 1, 2, 15, 17, 65, 4097]), scene.pick([True, False])
    rows = scene.pick([(2,), (3, 2)] if columns > 99 else [(2,), (17,), (65,), (3, 5), (2, 1, 4), (300,)])
    dtype = scene.pick(REALS)
    x, grad = (scene.reals((*rows, columns), dtype) for _ in range(2))
    weight, bias, mean = (scene.reals((columns,), dtype) for _ in range(3))
    variance = scene.reals((columns,), dtype, ["probabilities"])
    running = scene.pick(
        [{"running_mean": mean, "running_var": variance}, {}]
        if training
        else [{"running_mean": mean, "running_var": variance}]
    )
    good = {"x": x, "weight": weight, "bias": bias, **running, "training": training}
    good = with_out(scene, {**good, "momentum": scene.number(0, 1), "eps": scene.pick([1e-5, 1e-12, 1.0])}, x)
    arguments = scene.spoil(dict(good))
    got = scene.check(batch_norm, wanted_batch_norm, arguments, good, ["out", "running_mean", "running_var"])
    if got is None:
        return
    cache = layers.BatchNormCache(*got[1])
    scene.spoiled.clear()
    columnwise = {name: scene.pick([None, scene.array(np.zeros_like(weight))]) for name in ("grad_weight", "grad_bias")}
    good = with_out(scene, {"grad": grad, "cache": cache, **columnwise}, x, [grad])
    arguments = scene.spoil(dict(good))

    def wanted(grad, cache, grad_weight=None, grad_bias=None):
        mean = got[1][1]
        if not mean.size:
            return grad, mean, mean
        of_x, of_weight, of_bias = reference.layers.batch_norm_backward(grad, got[1])
        for given_array, array in ((grad_weight, of_weight), (grad_bias, of_bias)):
            if given_array is not None:
                given_array[...] = array
        return of_x, of_weight, of_bias

    scene.check(layers.batch_norm_backward, wanted, arguments, good, ["out", "grad_weight", "grad_bias"])


@given(st.data())
def test_l2_penalty(data):
    scene = Scene(data)
    make = things(scene)
    good = {"params": make(), "lam": scene.number(0, 1e3), "grads": scene.pick([None, make()])}

    def wanted(params, lam, grads):
        total, of_grads = 0.0, leaves(grads)
        for i, array in enumerate(leaves(params)):
            total += reference.layers.l2_penalty(np.atleast_1d(array), 1.0)
            if of_grads:
                of_grads[i] += array.dtype.type(2 * lam) * array
        return lam * total

    scene.check(layers.l2_penalty, wanted, scene.spoil(dict(good)), good, ["grads"])


# Augmentation


def images_of(scene):
    """Give images; their size is at least 1."""
    dtype = scene.pick([np.dtype(np.uint8), *REALS])
    side = scene.pick([1, 2, 15, 17])
    shape = scene.pick([(0, 3, 3), (1, side, 65), (2, 1, side), (2, side, side, 3), (3, 4, side, 1), (2, side, 5, 4)])
    if dtype == np.uint8:
        return scene.array(np.random.default_rng(scene.integer(99)).integers(0, 256, shape, np.uint8))
    return scene.reals(shape, dtype, ["ordinary", "ordinary", "edges"])


def sampling(scene, images, name, most):
    """Add the options of any resampling, and where it goes."""
    size = scene.pick([None, images.shape[1:3], (1, 1), (min(5, most[0]), min(3, most[1]))])
    real = np.zeros((len(images), *(size or images.shape[1:3]), *images.shape[3:]), images.dtype)
    fill, border = scene.pick([0.0, 0.25, 1]), scene.pick(["constant", "edge", "reflect"])
    return {name: size, "border": border, "fill": fill, "out": scene.pick([None, None, scene.array(real)])}


@fuzz
@given(st.data())
def test_affine(data):
    scene = Scene(data)
    images = images_of(scene)
    matrices = np.random.default_rng(scene.integer(99)).normal(
        0, scene.pick([0, 1, 3, 1e9, 1e300]), (len(images), 2, 3)
    )
    matrices = scene.array(
        matrices.astype(scene.pick(["f8", "f8", "i8"]) if np.abs(matrices).max(initial=0) < 9 else "f8")
    )
    good = {"images": images, "matrices": scene.pick([matrices, matrices.tolist() if len(images) else matrices])}
    good |= sampling(scene, images, "shape", (5, 5))
    scene.check(fastopt.affine, reference.augment.affine, scene.spoil(dict(good)), good, ["out"])


@fuzz
@given(st.data())
def test_augment(data):
    scene = Scene(data)
    images = images_of(scene)
    index = np.random.default_rng(scene.integer(99)).integers(0, 2**32, len(images))
    good = {"images": images, "seed": scene.integer(2**64 - 1), "step": scene.integer(2**53 - 1)}
    good |= {"index": scene.pick([None, scene.array(index), scene.array(index.astype("u4")), index.tolist()])}
    good |= {"rotate": scene.number(0, 180), "scale": (scene.number(0.1, 1), scene.number(1, 9))}
    good |= {name: scene.number(0, 1) for name in ("translate", "flip", "flip_vertical", "contrast", "brightness")}
    good |= {"noise": scene.pick([0.0, 0.1])} | sampling(scene, images, "crop", images.shape[1:3])

    scene.check(fastopt.augment, reference.augment.augment, scene.spoil(dict(good)), good, ["out"])
