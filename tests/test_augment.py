"""Augmentation matches SciPy and (bit for bit) the reference, and has the right distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import same_bits
from strategies import same

import fastopt
from fastopt import reference, runtime
from fastopt.augment import affine, augment
from fastopt.augment._augment import _sine_and_cosine
from fastopt.augment._images import BORDERS
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
            assert same(function(*arguments, **options), wanted)


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


def awkward_matrices(shape):
    """Return matrices that also hit the middle between pixels, the borders, and points far outside."""
    rng = np.random.default_rng(2)
    halves = rng.integers(-8, 9, (60, 2, 3)) / 2
    far = rng.integers(-2, 3, (60, 2, 3)) * 10.0 ** rng.integers(-3, 8, (60, 2, 3))
    almost_half = np.broadcast_to([[1, 0, 0.49999999999999994], [0, 1, -0.5000000000000001]], (1, 2, 3))
    return np.concatenate([random_matrices((60, *shape[1:])), halves, halves / 2, far, almost_half])


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("shape", [(1, 5, 7), (1, 1, 9), (1, 8, 1), (1, 6, 6)], ids=str)
def test_nearest_matches_scipy_but_for_one_point(shape, border):
    ndimage = pytest.importorskip("scipy.ndimage")
    matrices, size = awkward_matrices(shape), (9, 11)
    image = np.random.default_rng(0).integers(0, 100, shape[1:])
    images = np.broadcast_to(image, (len(matrices), *image.shape))
    got = affine(images, matrices, shape=size, interpolation="nearest", border=border, fill=-1)
    mode = {"constant": "grid-constant", "edge": "nearest", "reflect": "mirror"}[border]
    i, j = np.mgrid[:9, :11]
    for moved, m in zip(got, matrices, strict=True):
        options = {"output_shape": size, "order": 0, "mode": mode, "cval": -1}
        same_pixel = moved == ndimage.affine_transform(image, m[:, :2], m[:, 2], **options)
        if border == "reflect":
            for (a, b, c), n in zip(m, image.shape, strict=True):
                place = (a * i + c) + b * j
                same_pixel |= (n > 1) & (place > 0) & (place % max(2 * n - 2, 1) == n - 0.5)
        assert same_pixel.all()


def test_nearest_rounds_half_up():
    images = np.array([[[10, 20, 30, 40]]])
    shifts = [-1.5, -1, -0.5, 0.5, 1.5, 3.5]
    matrices = [[[0, 0, 0], [0, 0, x]] for x in shifts]
    wanted = {"constant": [7, 7, 10, 20, 30, 7], "edge": [10, 10, 10, 20, 30, 40], "reflect": [30, 20, 20, 20, 30, 40]}
    for border, pixels in wanted.items():
        options = {"shape": (1, 1), "interpolation": "nearest", "border": border, "fill": 7}
        assert affine(np.repeat(images, 6, 0), matrices, **options).ravel().tolist() == pixels


LABELS = ["u1", "?", "f2", ">i4", "f4", "i8", "longdouble"]


@pytest.mark.parametrize("dtype", LABELS)
@pytest.mark.parametrize("border", BORDERS)
def test_nearest_matches_reference(border, dtype):
    for shape in ((5, 7), (5, 7, 1), (4, 6, 2), (3, 5, 3), (2, 300), (1, 290, 5)):
        matrices = awkward_matrices((1, *shape))[::7]
        images = np.broadcast_to(np.random.default_rng(0).integers(0, 2, shape).astype(dtype), (len(matrices), *shape))
        options = {"interpolation": "nearest", "shape": (2, 270), "border": border, "fill": 1}
        check_reference(affine, "affine", images, matrices, **options)


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63), 2**53 + 1])
def test_nearest_copies_all_bits(value):
    matrix = [[[1, 0, 0], [0, 1, 0.5]]]
    labels = affine(np.array([[[0, value]]]), matrix, interpolation="nearest", fill=value)
    assert labels.tolist() == [[[value, value]]]
    floats = affine(np.array([[[0, -0.0, np.nan]]]), matrix, interpolation="nearest", fill=-0.0)
    assert same_bits(floats, np.array([[[-0.0, np.nan, -0.0]]]))


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("giant", [1e6, 2e9, 1e30, 1e300])
def test_extreme_matrices_read_no_pixel_outside(giant, border, dtype, interpolation):
    rng = np.random.default_rng(0)
    matrices = giant * rng.normal(0, 1, (20, 2, 3))
    matrices[rng.random(matrices.shape) < 0.5] = 0
    options = {"interpolation": interpolation, "border": border}
    check_reference(affine, "affine", random_images((20, 9, 9, 3), dtype), matrices, **options)


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
    mask_out, options = np.full((3, 4, 5), 9, np.uint8), {"masks": images > 0.5, "seed": 0, "step": 0, "crop": (4, 5)}
    got = augment(images, **{**options, "masks": options["masks"].view("u1")}, out=(out, mask_out))
    assert got[0] is out
    assert got[1] is mask_out
    assert same(got, augment(images, **{**options, "masks": options["masks"].view("u1")}))
    assert augment(images, **options, out=(out, None))[1].dtype == bool


ORDERS = {
    "Fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2),
    "strided": lambda x: np.repeat(x, 2, axis=0)[::2],
    "reversed": lambda x: np.ascontiguousarray(x[:, ::-1])[:, ::-1],
    "misaligned": lambda x: np.frombuffer(b"?" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
def test_inputs_may_have_any_memory_order(order, dtype):
    images, masks = random_images((4, 6, 9, 3), dtype), random_images((4, 6, 9), np.uint8)
    options, change = {"seed": 0, "step": 0, **GEOMETRY}, ORDERS[order]
    changed = change(images)
    before = changed.copy()
    assert same(augment(changed, masks=change(masks), **options), augment(images, masks=masks, **options))
    matrices = random_matrices(images.shape)
    assert same(affine(changed, change(matrices)), affine(images, matrices))
    assert same(affine(images, matrices.tolist()), affine(images, matrices))
    assert np.array_equal(changed, before)


@pytest.mark.parametrize(
    "options", [{"translate": 1.7e308}, {"scale": (5e-324, 5e-324)}, {"contrast": 1.7e308}], ids=str
)
def test_extreme_options_do_not_warn(options):
    images, masks = random_images((2, 20, 3), np.uint8), random_images((2, 20, 3), np.int32)
    with np.errstate(all="raise"):
        moved = augment(images, masks=masks, seed=0, step=0, mask_fill=7, **options)
    with np.errstate(all="ignore"):
        assert same(moved, reference.augment.augment(images, masks=masks, seed=0, step=0, mask_fill=7, **options))


def test_empty_batch_returns_empty_batch():
    assert augment(np.zeros((0, 4, 4), np.uint8), seed=0, step=0, noise=1).shape == (0, 4, 4)
    assert affine(np.zeros((0, 4, 4)), np.zeros((0, 2, 3)), shape=(2, 9)).shape == (0, 2, 9)
    images, masks = augment(np.zeros((0, 4, 4)), masks=np.zeros((0, 4, 4, 2), int), seed=0, step=0, crop=(3, 2))
    assert (images.shape, masks.shape, masks.dtype) == ((0, 3, 2), (0, 3, 2, 2), int)


# Random changes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_augment_matches_reference(shape, dtype):
    images, index = random_images(shape, dtype), 10**9 * np.arange(shape[0]) + 5
    everything = {**GEOMETRY, **SHADING, "border": "reflect", "crop": ((shape[1] + 1) // 2, (shape[2] + 2) // 3)}
    check_reference(augment, "augment", images, seed=2**63 + 1, step=2**40, index=index, **everything)
    check_reference(augment, "augment", images, seed=0, step=0, fill=0.5, **GEOMETRY, **SHADING)
    masks = random_images((*shape[:3], 2), np.uint8)
    check_reference(augment, "augment", images, masks=masks, seed=0, step=0, index=index, **everything)
    check_reference(augment, "augment", images, masks=masks[..., 0], seed=0, step=0, mask_fill=255, **GEOMETRY)


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


@pytest.mark.parametrize("dtype", [np.uint8, bool, np.int32, np.int64, np.float32])
def test_masks_move_with_their_images_and_get_no_new_labels(dtype):
    """A mask of large regions, moved with an image of the same regions, differs from it at edges only."""
    labels = np.array([0, 1] if dtype is bool else [0, 1, 3, 4], dtype)
    masks = np.kron(np.random.default_rng(0).choice(labels, (40, 4, 4)), np.ones((1, 8, 8), dtype)).astype(dtype)
    images = (masks == labels[-1]).astype(np.float32)
    options = {"seed": 4, "step": 5, **GEOMETRY, "contrast": 0.1, "border": "reflect"}
    moved, moved_masks = augment(images, masks=masks, **options)
    assert same(moved, augment(images, **options))
    assert moved_masks.dtype == dtype
    assert set(np.unique(moved_masks)) == set(labels)
    inner = (moved < 0.05) | (moved > 0.95)  # contrast leaves a region at least 0.95 or at most 0.05
    assert inner.mean() > 0.5
    assert np.array_equal(moved_masks[inner] == labels[-1], moved[inner] > 0.5)


def test_masks_are_void_outside_and_keep_their_values():
    images, masks = np.zeros((30, 8, 8, 3), np.float32), np.full((30, 8, 8), 1, np.uint8)
    options = {"seed": 0, "step": 0, "rotate": 45, "fill": 1.0, "brightness": 0.2, "noise": 0.2}
    _, moved_masks = augment(images, masks=masks, mask_fill=255, **options)
    assert set(np.unique(moved_masks)) == {1, 255}
    outside = augment(images, seed=0, step=0, rotate=45, fill=1.0)[..., 0]  # the weight of fill in a pixel
    assert (moved_masks[outside < 0.45] == 1).all()
    assert (moved_masks[outside > 0.8] == 255).all()


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
    radians = np.radians(degrees).tolist()  # not NumPy's functions, of which old ones are less accurate
    assert np.abs(sine - list(map(math.sin, radians))).max() < 4e-16
    assert np.abs(cosine - list(map(math.cos, radians))).max() < 4e-16
    pairs = [reference.augment.sine_and_cosine(float(angle)) for angle in degrees[::7]]
    assert np.array_equal(np.array(pairs).T, [sine[::7], cosine[::7]])
