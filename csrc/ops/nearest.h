/* Nearest pixels: an inverse affine resampling that copies pixels of any type, for label masks. Mirrors fastopt/augment.
 * Coordinates are double for all types, and rounded half up, as in SciPy. */
#ifndef FASTOPT_NEAREST_H
#define FASTOPT_NEAREST_H

#include "images.h"

/* Find the nearest pixels of a block of row i: their indices, or -1 outside the image. */
NOINLINE void find_nearest(int32_t *index, const double *t, int64_t height, int64_t width, int border, int64_t i,
                           int64_t j, int count) {
    const struct axis_double rows = make_axis_double(height, border), columns = make_axis_double(width, border);
    const double y0 = t[0] * (double)i + t[2], y_step = t[1], x0 = t[3] * (double)i + t[5], x_step = t[4];
    const double y_end = (double)height, x_end = (double)width;
    const int32_t begin = (int32_t)j, pitch = (int32_t)width;
    double y[BLOCK], x[BLOCK];
    SIMD
    for (int k = 0; k < count; k++) {
        y[k] = y0 + (double)(begin + k) * y_step;
        x[k] = x0 + (double)(begin + k) * x_step;
    }
    if (border == REFLECT_BORDER) {
        reflect_double(y, rows.period, count);
        reflect_double(x, columns.period, count);
    }
    SIMD
    for (int k = 0; k < count; k++) {
        const double v = clamp_double(y[k], rows) + 0.5, h = clamp_double(x[k], columns) + 0.5;
        const bool inside = v >= 0 && v < y_end && h >= 0 && h < x_end;
        index[k] = inside ? (int32_t)v * pitch + (int32_t)h : -1;
    }
}

/* Copy pixels of `size` bytes; a constant size spares the calls of memcpy, which take three times as long. */
INLINE void copy_pixels(char *out, const char *image, const int32_t *index, const char *fill, int64_t size, int count) {
    for (int k = 0; k < count; k++)
        memcpy(out + k * size, index[k] < 0 ? fill : image + index[k] * size, (size_t)size);
}

#define TEMPLATE "ops/nearest.h"
#include "../for_each_real.h"

#elif defined(real)

/* Copy rows [begin, end) of all output images, which follow each other. */
OP_OF(nearest) {
    const int64_t size = a.size, image_size = a.height * a.width * size;
    for (int64_t row = begin; row < end; row++) {
        const int64_t n = row / a.out_height, i = row % a.out_height;
        const char *image = (const char *)a.x + n * image_size, *fill = a.fill;
        prefetch_next(image, image_size, i, a.out_height);
        for (int64_t j = 0; j < a.out_width; j += BLOCK) {
            const int count = (int)(a.out_width - j < BLOCK ? a.out_width - j : BLOCK);
            char *out = (char *)a.y + (row * a.out_width + j) * size;
            int32_t index[BLOCK];
            find_nearest(index, a.transforms + TRANSFORM_SIZE * n, a.height, a.width, (int)a.border, i, j, count);
            if (size == 1)
                copy_pixels(out, image, index, fill, 1, count);
            else if (size == 2)
                copy_pixels(out, image, index, fill, 2, count);
            else if (size == 4)
                copy_pixels(out, image, index, fill, 4, count);
            else if (size == 8)
                copy_pixels(out, image, index, fill, 8, count);
            else
                copy_pixels(out, image, index, fill, size, count);
        }
    }
    return 0;
}

#endif
