"""Losses, layers and augmentation return the bits of the reference, or raise and change no byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from strategies import (
    DTYPES,
    FLAGS,
    PROBABILITIES,
    SEEDS,
    STEPS,
    arrays,
    calls,
    fuzz,
    guarded,
    leaves,
    numbers,
    shapes,
    zeros_like,
)
from structures import parameters

import fastopt
from fastopt import layers, losses, reference

CLASSES = st.sampled_from([2, 1, 3, 15, 16, 17, 64, 65, 257, 4097])
reductions = st.sampled_from(["mean", "sum", "none"])


@st.composite
def shapes_with_classes(draw, min_dims):
    """Draw a shape with the classes in its last dimension."""
    classes = draw(CLASSES)
    max_side = 2 if classes > 99 else 65
    return (*draw(hnp.array_shapes(min_dims=min_dims, max_dims=2, min_side=0, max_side=max_side)), classes)


@st.composite
def targets(draw, dtype, shape, bounds=None):
    """Draw a target of real numbers: in the dtype of the prediction, or one that is converted to it."""
    target = draw(arrays(dtype, shape, bounds))
    if draw(FLAGS):
        return target
    kind = draw(st.sampled_from(["?", "i1", "u8", "f2", "f4", ">f8"]))
    with np.errstate(all="ignore"):
        return guarded(np.where(np.abs(target) < 2**15, target, 1).astype("?" if kind == "u8" else kind).astype(kind))


@st.composite
def elementwise(draw, name="x", bounds=None, **options):
    """Draw a prediction and a target of one shape, and options that may depend on the prediction."""
    dtype, shape = draw(DTYPES), draw(shapes())
    x, target = draw(arrays(dtype, shape)), draw(targets(dtype, shape, bounds))
    drawn = {option: draw(value(x) if callable(value) else value) for option, value in options.items()}
    return {name: x, "target": target, **drawn}


def class_weights(x, *numbers):
    """Return a strategy for None, numbers, or a weight for each class."""
    return st.one_of(st.none(), *numbers, arrays(x.dtype, x.shape[-1:] or (1,), (0.125, 4)))


@st.composite
def with_classes(draw, name, min_dims, *, mask=False):
    """Draw a prediction with the classes last, labels or probabilities as the target, and a label to ignore.

    With ``mask``, the label of a single class is 1, and the target may have either shape.
    """
    dtype, shape = draw(DTYPES), draw(shapes_with_classes(min_dims))
    ignored = draw(st.sampled_from([-100, 0, 3, 255, -(2**63)]))
    mask = mask and shape[-1] == 1
    x, target_shape = draw(arrays(dtype, shape)), draw(st.sampled_from([shape, shape[:-1]])) if mask else shape[:-1]
    if draw(FLAGS):
        target = draw(targets(dtype, target_shape if mask else shape, PROBABILITIES))
        return {name: x, "target": target, "ignore_index": ignored if target.dtype.kind == "f" or not mask else -100}
    kind = "i8" if ignored < -(2**31) else draw(st.sampled_from(["i8", "i4", "u2", "?"]))
    kind = "i8" if (kind == "u2" and ignored < 0) or (kind == "?" and shape[-1] > 2) else kind
    labels = st.integers(0, (2 if mask else shape[-1]) - 1) | st.just(ignored)
    labels = labels if kind != "?" else labels.filter(lambda label: label in (0, 1)).map(bool)
    return {name: x, "target": guarded(draw(hnp.arrays(kind, target_shape, elements=labels))), "ignore_index": ignored}


@st.composite
def cross_entropy(draw):
    arguments = draw(with_classes("logits", 0))
    weight = draw(class_weights(arguments["logits"]))
    return {**arguments, "weight": weight, "label_smoothing": draw(numbers(0, 1))}


@st.composite
def dice(draw):
    arguments = draw(with_classes("x", 1, mask=True))
    forms = [None, "sigmoid", *(["softmax"] if arguments["x"].shape[-1] > 1 else [])]
    options = {"from_logits": draw(st.sampled_from(forms)), "smooth": draw(numbers(0, 2))}
    return {**arguments, **options, "squared": draw(FLAGS), "per_image": draw(FLAGS)}


LOSSES = {
    **dict.fromkeys(["mse", "mae", "log_cosh"], elementwise()),
    "huber": elementwise(delta=numbers(2**-10, 2**10)),
    "binary_cross_entropy": elementwise("logits", PROBABILITIES, pos_weight=lambda x: class_weights(x, numbers(0, 9))),
    "focal": elementwise(
        "logits",
        PROBABILITIES,
        gamma=st.sampled_from([0.0, 0.5, 2.0, 5.0]),
        alpha=st.none() | numbers(0, 1),
    ),
    "cross_entropy": cross_entropy(),
    "dice": dice(),
}


@st.composite
def with_out(draw, valid, name):
    """Add the array that the result is written to: a new one, a zeroed one, or the argument of that name."""
    x = valid[name]
    return {**valid, "out": draw(zeros_like(x) | st.just(x))}


@pytest.mark.parametrize("name", LOSSES)
@fuzz(data=st.data())
def test_losses(name, data):
    valid = {**data.draw(LOSSES[name]), "reduction": data.draw(reductions)}
    call = data.draw(calls(with_out(valid, next(iter(valid)))))
    call.check(getattr(losses, name), getattr(reference.losses, name), ["out"])


@fuzz(data=st.data())
def test_dropout(data):
    valid = {"x": data.draw(arrays(data.draw(DTYPES), data.draw(shapes(3)))), "p": data.draw(numbers(0, 1023 / 1024))}
    valid |= {"seed": data.draw(SEEDS), "step": data.draw(STEPS)}
    data.draw(calls(with_out(valid, "x"))).check(layers.dropout, reference.layers.dropout, ["out"])


def batch_norm(**arguments):
    y, cache = layers.batch_norm(**arguments)
    return y, (cache.x, cache.mean, cache.scale, cache.inverse_std, cache.training)


def wanted_batch_norm(x, weight, bias, running_mean=None, running_var=None, training=True, **options):
    weight, bias = (np.asarray(array).astype(x.dtype) for array in (weight, bias))
    if not training:
        running_mean, running_var = (np.asarray(array).astype(x.dtype) for array in (running_mean, running_var))
    if x.shape[-1]:
        return reference.layers.batch_norm(x, weight, bias, running_mean, running_var, training=training, **options)
    return x, (x, bias, weight, bias.astype(np.float64), training)  # the reference needs a channel


@st.composite
def normalization(draw):
    """Draw arguments of batch_norm, and a gradient of its result."""
    dtype, columns, training = draw(DTYPES), draw(CLASSES | st.just(0)), draw(FLAGS)
    rows = draw(st.sampled_from([(2,), (3, 2)] if columns > 99 else [(2,), (17,), (65,), (3, 5), (2, 1, 4), (300,)]))
    x, grad = (draw(arrays(dtype, (*rows, columns))) for _ in range(2))
    column = arrays(dtype, (columns,))
    valid = {"x": x, "weight": draw(column), "bias": draw(column), "training": training}
    if not training or draw(FLAGS):
        valid |= {"running_mean": draw(column), "running_var": draw(arrays(dtype, (columns,), PROBABILITIES))}
    valid |= {"momentum": draw(numbers(0, 1)), "eps": draw(st.sampled_from([1e-5, 1e-12, 1.0]))}
    return {**valid, "out": draw(zeros_like(x))}, grad


@fuzz(data=st.data())
def test_batch_norm(data):
    valid, grad = data.draw(normalization())
    call = data.draw(calls(valid))
    got = call.check(batch_norm, wanted_batch_norm, ["out", "running_mean", "running_var"])
    if got is None:
        return
    columns = {name: data.draw(zeros_like(valid["weight"])) for name in ("grad_weight", "grad_bias")}
    valid = {"grad": grad, "cache": layers.BatchNormCache(*got[1]), **columns}
    call = data.draw(calls(with_out(valid, "grad")))

    def wanted(grad, cache, grad_weight=None, grad_bias=None):
        mean, grad = got[1][1], np.asarray(grad).astype(got[1][1].dtype)
        if not mean.size:
            return grad, mean, mean
        of_x, of_weight, of_bias = reference.layers.batch_norm_backward(grad, got[1])
        for target, array in ((grad_weight, of_weight), (grad_bias, of_bias)):
            if target is not None:
                target[...] = array
        return of_x, of_weight, of_bias

    call.check(layers.batch_norm_backward, wanted, ["out", "grad_weight", "grad_bias"])


@fuzz(data=st.data())
def test_l2_penalty(data):
    make = data.draw(parameters())
    valid = {"params": data.draw(make()), "lam": data.draw(numbers(0, 1024)), "grads": data.draw(st.none() | make())}
    call = data.draw(calls(valid))

    def wanted(params, lam, grads):
        arrays, total, divided_total = [np.atleast_1d(array) for array in leaves(params)], 0.0, 0.0
        for i, array in enumerate(arrays):
            total += reference.sum_squares([array])
            divided_total += reference.sum_squares([array.astype(np.float64) / 2.0**540])
            if grads is not None:
                leaves(grads)[i][...] += (array.dtype.type(2 * lam) * array).reshape(leaves(grads)[i].shape)
        return lam * divided_total * 2.0**540 * 2.0**540 if np.isinf(total) else lam * total

    call.check(layers.l2_penalty, wanted, ["grads"])


IMAGE_SHAPES = [(1, 2, 2), (0, 3, 3), (1, 15, 65), (2, 1, 17), (2, 15, 17, 3), (3, 4, 17, 1), (2, 17, 5, 4)]


IMAGE_DTYPES = DTYPES | st.just(np.dtype(np.uint8))
LABEL_DTYPES = IMAGE_DTYPES | st.sampled_from([np.dtype(name) for name in ("?", "i2", "i4", "i8", "u8")])


@st.composite
def images_and_sampling(draw, size_name, largest=None, dtypes=IMAGE_DTYPES):
    """Draw images, and the options of functions that resample them."""
    images = draw(arrays(draw(dtypes), draw(st.sampled_from(IMAGE_SHAPES))))
    height, width = largest or images.shape[1:3]
    size = draw(st.none() | st.tuples(st.integers(1, min(5, height)), st.integers(1, min(5, width))))
    shape = (len(images), *(size or images.shape[1:3]), *images.shape[3:])
    out = draw(zeros_like(np.zeros(shape, images.dtype)))
    fill = draw(numbers(0, 1) if dtypes is IMAGE_DTYPES else st.sampled_from([0.0, 1.0]))
    border = draw(st.sampled_from(["constant", "edge", "reflect"]))
    return {"images": images, size_name: size, "border": border, "fill": fill, "out": out}


@fuzz(data=st.data())
def test_affine(data):
    interpolation = data.draw(st.sampled_from(["bilinear", "nearest"]))
    dtypes = LABEL_DTYPES if interpolation == "nearest" else IMAGE_DTYPES
    valid = {**data.draw(images_and_sampling("shape", (5, 5), dtypes)), "interpolation": interpolation}
    shape = (len(valid["images"]), 2, 3)
    floats = arrays(np.float64, shape, data.draw(st.sampled_from([(-3, 3), (-1e9, 1e9), (-1e300, 1e300)])))
    matrices = data.draw(floats | arrays(np.int64, shape, (-3, 3)))
    valid["matrices"] = data.draw(st.sampled_from([matrices, matrices.tolist() if len(matrices) else matrices]))
    data.draw(calls(valid)).check(fastopt.affine, reference.augment.affine, ["out"])


@fuzz(data=st.data())
def test_augment(data):
    valid = data.draw(images_and_sampling("crop"))
    index = data.draw(
        arrays(data.draw(st.sampled_from([np.int64, np.uint32])), valid["images"].shape[:1], (0, 2**32 - 1))
    )
    valid |= {"index": data.draw(st.sampled_from([None, index, index.tolist()]))}
    valid |= {"seed": data.draw(SEEDS), "step": data.draw(STEPS), "rotate": data.draw(numbers(0, 180))}
    valid |= {"scale": (data.draw(numbers(0.125, 1)), data.draw(numbers(1, 9)))}
    for name in ("translate", "flip", "flip_vertical", "contrast", "brightness"):
        valid[name] = data.draw(numbers(0, 1))
    valid["noise"] = data.draw(st.sampled_from([0.0, 0.1]))
    if data.draw(FLAGS):
        images, tail = valid["images"], data.draw(st.sampled_from([(), (1,), (3,)]))
        masks = valid["masks"] = data.draw(arrays(data.draw(LABEL_DTYPES), (*images.shape[:3], *tail)))
        shape = (len(images), *(valid["crop"] or images.shape[1:3]), *tail)
        mask_out = data.draw(zeros_like(np.zeros(shape, masks.dtype)))
        valid["out"] = data.draw(st.sampled_from([None, (valid["out"], mask_out)]))
        valid["mask_fill"] = data.draw(st.sampled_from([0.0, 1.0]))
    data.draw(calls(valid)).check(fastopt.augment, reference.augment.augment, ["out"])
