"""Augmentation matches SciPy and (bit for bit) the reference, and has the right distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import same_bits

import fastopt
from fastopt import reference, runtime
from fastopt.augment import BORDERS, _sine_and_cosine, affine, augment
from fastopt.reference.augment import normals

DTYPES = [np.uint8, np.float32, np.float64]
SHAPES = [
    (3, 13, 17),
    (2, 9, 30, 3),
    (2, 7, 6, 5),
    (2, 6, 9, 4),
    (2, 5, 300),
    (1, 4, 290, 3),
    (3, 1, 9),
    (3, 8, 1, 3),
    (2, 2, 2, 1),
]
GEOMETRY = {"rotate": 170, "scale": (0.3, 2), "translate": 0.4, "flip": 0.5, "flip_vertical": 0.5}
SHADING = {"contrast": 0.3, "brightness": 0.2, "noise": 0.1}


def random_images(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, shape, np.uint8) if dtype == np.uint8 else rng.uniform(0, 1, shape).astype(dtype)


def random_matrices(shape, seed=1):
    """Return matrices that rotate, stretch and shift, also beyond the borders."""
    rng = np.random.default_rng(seed)
    matrices = rng.normal(0, 1, (shape[0], 2, 3))
    matrices[:, :, 2] += np.array(shape[1:3]) / 2
    return matrices


def check_reference(function, name, *arguments, **options):
    wanted = getattr(reference.augment, name)(*arguments, **options)
    for isa in runtime.available_isas():
        for threads in (1, 2, 4, "auto"):
            fastopt.set_isa(isa)
            fastopt.set_num_threads(threads)
            got = function(*arguments, **options)
            if got.dtype == np.uint8:
                assert np.array_equal(got, wanted)
            else:
                assert same_bits(got, wanted)


# Resampling


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_affine_matches_scipy(shape, border, dtype):
    ndimage = pytest.importorskip("scipy.ndimage")
    images, matrices, size = random_images(shape, dtype), random_matrices(shape), (11, 14)
    white = 255 if dtype == np.uint8 else 1
    got = affine(images, matrices, shape=size, border=border, fill=0.25 * white)
    mode = {"constant": "grid-constant", "edge": "nearest", "reflect": "mirror"}[border]
    planes = images.reshape(*shape[:3], -1)
    for i, m in enumerate(matrices):
        for c in range(planes.shape[3]):
            plane = planes[i, :, :, c].astype(np.float64)
            wanted = ndimage.affine_transform(
                plane, m[:, :2], m[:, 2], output_shape=size, order=1, mode=mode, cval=0.25 * white
            )
            off = np.abs(got.reshape(-1, *size, planes.shape[3])[i, :, :, c] - wanted).max()
            assert off < {np.uint8: 0.501, np.float32: 1e-4, np.float64: 1e-12}[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_affine_matches_reference(shape, border, dtype):
    matrices = random_matrices(shape)
    check_reference(affine, "affine", random_images(shape, dtype), matrices, border=border, fill=0.3)
    check_reference(affine, "affine", random_images(shape, dtype), matrices, border=border, shape=(6, 270))


def test_zeros_are_positive():
    images = np.full((1, 2, 2), -0.0)
    got = affine(images, np.array([[[1, 0, 0], [0, 1, 0]]]), fill=-1.0)
    assert not np.signbit(got).any()
    check_reference(affine, "affine", images, np.array([[[1, 0, 0], [0, 1, 0]]]), fill=-1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("giant", [1e6, 2e9, 1e30, 1e300])
def test_extreme_matrices_read_no_pixel_outside(giant, border, dtype):
    rng = np.random.default_rng(0)
    matrices = giant * rng.normal(0, 1, (20, 2, 3))
    matrices[rng.random(matrices.shape) < 0.5] = 0
    check_reference(affine, "affine", random_images((20, 9, 9, 3), dtype), matrices, border=border)


@pytest.mark.parametrize("border", ["constant", "edge", "reflect"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_last_pixel_of_longest_row_is_exact(border, dtype):
    images = np.zeros((1, 1, 2**24), dtype)
    images[0, 0, -9:] = np.arange(1, 10)
    shifted = affine(images, [[[1.0, 0, 0], [0, 1, 2.0**24 - 9]]], shape=(1, 9), border=border)
    assert shifted[0, 0].tolist() == [*range(1, 10)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("border", BORDERS)
def test_shifts_by_whole_pixels_copy(border, dtype):
    images = random_images((4, 9, 12, 3), dtype)
    identity = np.broadcast_to([[1, 0, 0], [0, 1, 0]], (4, 2, 3))
    assert np.array_equal(affine(images, identity, border=border), images)
    moved = np.broadcast_to([[1, 0, 2], [0, 1, 3]], (4, 2, 3))
    assert np.array_equal(affine(images, moved, shape=(7, 9), border=border), images[:, 2:, 3:])
    pad = {"constant": {"constant_values": 7}, "edge": {}, "reflect": {}}[border]
    wanted = np.pad(images, [(0, 0), (5, 5), (6, 6), (0, 0)], border, **pad)
    around = np.broadcast_to([[1, 0, -5], [0, 1, -6]], (4, 2, 3))
    assert np.array_equal(affine(images, around, shape=(19, 24), border=border, fill=7), wanted)


def test_uint8_is_rounded_half_to_even():
    images = np.array([[[0, 1, 2, 3, 255]]], np.uint8)
    halfway = affine(images, [[[1, 0, 0], [0, 1, 0.5]]], border="edge")
    assert halfway.tolist() == [[[0, 2, 2, 129, 255]]]


def test_out_receives_the_result():
    images, matrices = random_images((3, 8, 8), np.float32), random_matrices((3, 8, 8))
    out = np.full((3, 4, 5), np.nan, np.float32)
    assert affine(images, matrices, shape=(4, 5), out=out) is out
    assert same_bits(out, affine(images, matrices, shape=(4, 5)))
    assert augment(images, seed=0, step=0, crop=(4, 5), out=out) is out
    assert same_bits(out, augment(images, seed=0, step=0, crop=(4, 5)))


@pytest.mark.parametrize(
    "options", [{"translate": 1.7e308}, {"scale": (5e-324, 5e-324)}, {"contrast": 1.7e308}], ids=str
)
def test_extreme_options_do_not_warn(options):
    with np.errstate(all="raise"):
        assert augment(random_images((2, 20, 3), np.uint8), seed=0, step=0, **options).shape == (2, 20, 3)


def test_empty_batch_returns_empty_batch():
    assert augment(np.zeros((0, 4, 4), np.uint8), seed=0, step=0, noise=1).shape == (0, 4, 4)
    assert affine(np.zeros((0, 4, 4)), np.zeros((0, 2, 3)), shape=(2, 9)).shape == (0, 2, 9)


# Random changes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_augment_matches_reference(shape, dtype):
    images, index = random_images(shape, dtype), 10**9 * np.arange(shape[0]) + 5
    everything = {**GEOMETRY, **SHADING, "border": "reflect", "crop": ((shape[1] + 1) // 2, (shape[2] + 2) // 3)}
    check_reference(augment, "augment", images, seed=2**63 + 1, step=2**40, index=index, **everything)
    check_reference(augment, "augment", images, seed=0, step=0, fill=0.5, **GEOMETRY, **SHADING)


def test_result_for_an_image_is_independent_of_its_batch():
    images, index = random_images((40, 16, 16), np.float32), np.arange(100, 140)
    options = {"seed": 1, "step": 2, **GEOMETRY, **SHADING}
    whole = augment(images, index=index, **options)
    order = np.random.default_rng(0).permutation(40)
    assert same_bits(augment(images[order], index=index[order], **options), whole[order])
    assert same_bits(augment(images[7:8], index=[107], **options), whole[7:8])
    assert same_bits(augment(images, **options), augment(images, index=np.arange(40), **options))
    for other in ({"seed": 3}, {"step": 3}, {"index": index + 1}):
        assert not (augment(images, **{"index": index, **options, **other}) == whole).mean() > 0.2


def test_masks_move_with_their_images():
    images = random_images((20, 16, 16, 3), np.uint8)
    moved = augment(images, seed=4, step=5, **GEOMETRY)
    masks = augment(np.ascontiguousarray(images[..., 1]), seed=4, step=5, **GEOMETRY)
    assert np.array_equal(moved[..., 1], masks)


def test_flips_and_crops_are_exact_copies_with_the_right_frequencies():
    images = random_images((2000, 5, 6), np.uint8)
    flipped = augment(images, seed=0, step=0, flip=0.3, flip_vertical=0.8)
    ways = {(a, b): images[:, :: -1 if b else 1, :: -1 if a else 1] for a in (0, 1) for b in (0, 1)}
    found = {way: (flipped == view).all(axis=(1, 2)) for way, view in ways.items()}
    assert sum(found.values()).all()
    assert abs(sum(share.mean() for (a, _), share in found.items() if a) - 0.3) < 0.04
    assert abs(sum(share.mean() for (_, b), share in found.items() if b) - 0.8) < 0.04
    cut = augment(images, seed=0, step=0, crop=(3, 4))
    places = [[(cut == images[:, i : i + 3, j : j + 4]).all(axis=(1, 2)) for j in range(3)] for i in range(3)]
    assert np.any(places, axis=(0, 1)).all()
    assert np.abs(np.mean(places, axis=2) - 1 / 9).max() < 0.03


def test_rotation_scale_and_shift_move_a_dot_by_the_right_amount():
    dots = np.zeros((500, 65, 65))
    dots[:, 32, 48] = 1
    rows, columns = np.mgrid[:65, :65] - 32.0

    def centers(**options):
        weights = augment(dots, seed=0, step=0, **options)
        weights = weights / weights.sum(axis=(1, 2), keepdims=True)
        return (weights * rows).sum(axis=(1, 2)), (weights * columns).sum(axis=(1, 2))

    y, x = centers(rotate=90)
    angle = np.degrees(np.arctan2(-y, x))
    assert np.abs(np.hypot(x, y) - 16).max() < 0.3  # interpolation moves the center of a one-pixel dot
    assert (angle.min() < -85, angle.max() > 85, abs(angle).max() < 91, abs(angle.mean()) < 8) == (True,) * 4
    y, x = centers(scale=(0.8, 1.5))
    assert np.abs(y).max() < 1e-9
    assert 0.8 < x.min() / 16 < 0.82
    assert 1.48 < x.max() / 16 < 1.5
    y, x = centers(translate=0.2)
    for shift in (y, x - 16):
        assert -13 < shift.min() < -12
        assert 12 < shift.max() < 13
    flipped, _ = centers(rotate=90, flip=1)
    y, _ = centers(rotate=90)
    assert np.abs(flipped + y).max() < 0.6  # the flip comes before the rotation


@pytest.mark.parametrize(("dtype", "white"), [(np.uint8, 255), (np.float64, 1)])
def test_contrast_scales_about_the_middle_and_brightness_is_added(dtype, white):
    values = np.array([0.2, 0.5, 0.8])
    images = np.tile(values * white, 1000).reshape(1000, 3, 1).astype(dtype)
    got = augment(images, seed=0, step=0, contrast=0.3)[..., 0] / white
    assert np.abs(got[:, 1] - 0.5).max() < 1 / 255
    assert np.abs([got[:, 2].min() - 0.71, got[:, 2].max() - 0.89]).max() < 0.005
    got = augment(images, seed=0, step=0, brightness=0.1)[..., 0] / white
    assert np.abs(np.diff(got) - 0.3).max() < 1.5 / 255
    assert np.abs([got[:, 0].min() - 0.1, got[:, 0].max() - 0.3]).max() < 0.005


def test_uint8_is_clipped_and_floats_are_not():
    white = np.full((50, 4, 4), 255, np.uint8)
    got = augment(white, seed=0, step=0, brightness=0.5, noise=2.0)
    assert (got.min(), got.max()) == (0, 255)
    assert augment(white.astype(np.float32), seed=0, step=0, brightness=0.5).max() > 255


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_noise_is_normal(dtype):
    got = augment(np.zeros((64, 128, 128), dtype), seed=0, step=0, noise=0.5).astype(np.float64) / 0.5
    flat, count = got.ravel(), got.size
    for power, moment in ((1, 0), (2, 1), (3, 0), (4, 3), (6, 15)):
        spread = math.sqrt(math.prod(range(1, 2 * power, 2)) / count)  # standard error of the mean of x**power
        assert abs((flat**power).mean() - moment) < 4 * spread
    for x in (0.1, 1, 2, 3, 4, 4.75):
        share = math.erfc(x / math.sqrt(2)) / 2
        for beyond in ((flat > x).mean(), (flat < -x).mean()):
            assert abs(beyond - share) < 4 * math.sqrt(share / count) + 1e-7
    for lag in (1, 16, 32, 64, 128 * 128):
        assert abs((flat[lag:] * flat[:-lag]).mean()) < 4 / math.sqrt(count)


def test_normal_numbers_are_accurate():
    """Within 2**-24 of the largest for float64 and 2**-22 for float32."""
    for block in range(200):
        words = reference._random.words(7, 8, 4, 64, block).astype(np.float64)
        radius = np.sqrt(-2 * np.log((np.floor(words[:32] / 2) + 0.5) / 2**31))
        angle = words[32:] * np.pi / 2**31
        wanted = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        assert np.abs(normals(7, 8, block) - wanted).max() < 6.7 * 2**-24
        assert np.abs(normals(7, 8, block, np.float32) - wanted).max() < 6.7 * 2**-22


def test_sine_and_cosine_are_accurate_and_match_reference():
    degrees = np.concatenate([np.linspace(-180, 180, 10001), np.random.default_rng(0).uniform(-180, 180, 10000)])
    sine, cosine = _sine_and_cosine(degrees)
    assert np.abs(sine - np.sin(np.radians(degrees))).max() < 4e-16
    assert np.abs(cosine - np.cos(np.radians(degrees))).max() < 4e-16
    pairs = [reference.augment.sine_and_cosine(float(angle)) for angle in degrees[::7]]
    assert np.array_equal(np.array(pairs).T, [sine[::7], cosine[::7]])
