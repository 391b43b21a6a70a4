"""Workloads of augmentation: rotate, scale, flip and translate by one resampling. Built and run in a worker."""

from __future__ import annotations

import numpy as np

from fastopt._bench.workloads import Workload

TOLERANCE = {"float32": 2e-5, "uint8": 0.505}  # float32 coordinates; bytes are rounded
MAX_DEGREES, SCALES, MAX_SHIFT = 15, (0.9, 1.1), 0.1


class Resampling(Workload):
    """Bilinear resampling of images, each by its own matrix, zeros outside. Drawing the matrices is not timed."""

    interpolation = "bilinear"

    def __init__(self, name, dtype, shape):
        rng = np.random.default_rng(0)
        self.images = rng.uniform(0, 1 if dtype == "float32" else 255.5, shape).astype(dtype)
        self.out = np.empty_like(self.images)
        self.matrices = np.array([self.draw_matrix(rng, np.array(shape[1:3])) for _ in self.images])
        self.tolerance = TOLERANCE[dtype]
        self.call = getattr(self, name)()

    def draw_matrix(self, rng, size):
        """Return a matrix that maps the row and column of an output pixel to those of the input."""
        angle, zoom = np.radians(rng.uniform(-MAX_DEGREES, MAX_DEGREES)), rng.uniform(*SCALES)
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / zoom
        rotation[1] *= rng.choice([-1, 1])
        center = (size - 1) / 2
        return np.column_stack([rotation, center - rotation @ (center + rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2) * size)])

    def fastopt(self):
        from fastopt.augment import affine

        return lambda: affine(self.images, self.matrices, interpolation=self.interpolation, out=self.out)

    def opencv(self):
        import cv2

        interpolation = {"bilinear": cv2.INTER_LINEAR, "nearest": cv2.INTER_NEAREST}[self.interpolation]
        flags, size = interpolation | cv2.WARP_INVERSE_MAP, self.images.shape[2:0:-1]
        matrices = np.ascontiguousarray(self.matrices[:, ::-1][:, :, [1, 0, 2]])  # for (x, y) instead of (row, column)

        def resample():
            for image, matrix, out in zip(self.images, matrices, self.out, strict=True):
                cv2.warpAffine(image, matrix, size, dst=out, flags=flags)
            return self.out

        return resample

    def scipy(self):
        from scipy import ndimage

        planes, outs = (x.reshape(*x.shape[:3], -1) for x in (self.images, self.out))
        order = {"bilinear": 1, "nearest": 0}[self.interpolation]

        def resample():
            for image, m, out in zip(planes, self.matrices, outs, strict=True):
                for c in range(image.shape[-1]):
                    ndimage.affine_transform(
                        image[..., c], m[:, :2], m[:, 2], order=order, mode="grid-constant", output=out[..., c]
                    )
            return self.out

        return resample

    def torch(self):
        """All images at once. PyTorch needs channels-first floats: bytes are converted beforehand, untimed."""
        import torch

        images = torch.from_numpy(self.images)
        planes = (images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)).float().contiguous()
        height, width = planes.shape[2:]
        # Coordinates from -1 to 1, x before y
        m = self.matrices[:, ::-1][:, :, [1, 0, 2]].copy()
        sizes = np.array([width, height])
        m[:, :, 2] += m[:, :, :2] @ ((sizes - 1) / 2) - (sizes - 1) / 2
        m *= np.array([width, height, 2]) / sizes[:, None]
        theta = torch.from_numpy(m.astype(np.float32))
        options = {"align_corners": False}

        def resample():
            grid = torch.nn.functional.affine_grid(theta, planes.shape, **options)
            return torch.nn.functional.grid_sample(planes, grid, **options).movedim(1, -1)

        return resample

    def check(self):
        """Return whether some images agree with the formula in float64."""
        actual = np.asarray(self.call()).reshape(self.images.shape)
        worst = 0.0
        for i in range(0, len(self.images), len(self.images) // 8):
            image = self.images[i].astype(np.float64)
            pad = [(1, 1), (1, 1), (0, 0)][: image.ndim]
            height, width = image.shape[:2]
            image = np.pad(image, pad)
            points = np.stack([*np.mgrid[:height, :width], np.ones((height, width))])
            y, x = np.tensordot(self.matrices[i], points, 1) + 1
            y, x = np.clip(y, 0, height + 1), np.clip(x, 0, width + 1)
            top, left = np.minimum(y.astype(int), height), np.minimum(x.astype(int), width)
            v, h = ((a - b).reshape(a.shape + (1,) * (image.ndim - 2)) for a, b in ((y, top), (x, left)))
            upper = (1 - h) * image[top, left] + h * image[top, left + 1]
            lower = (1 - h) * image[top + 1, left] + h * image[top + 1, left + 1]
            worst = max(worst, float(np.abs(actual[i] - ((1 - v) * upper + v * lower)).max()))
        return worst <= self.tolerance


class MaskResampling(Resampling):
    """The same with the nearest pixel, for masks."""

    interpolation = "nearest"

    def check(self):
        """Return whether 99 % of the pixels are those of the formula: OpenCV rounds coordinates to 2^-10."""
        actual = self.call()
        i, j = np.mgrid[: actual.shape[1], : actual.shape[2]]
        agreement = []
        for image, found, ((a, b, c), (d, e, f)) in zip(self.images, actual, self.matrices, strict=True):
            rows, columns = (np.floor(x + 0.5).astype(int) for x in (a * i + b * j + c, d * i + e * j + f))
            inside = (rows >= 0) & (rows < image.shape[0]) & (columns >= 0) & (columns < image.shape[1])
            wanted = np.where(inside, image[rows * inside, columns * inside], 0)
            agreement.append((found == wanted).mean())
        return bool(np.mean(agreement) > 0.99)
