/* Dice loss of the pixels of images: its sums and its gradient. Mirrors fastopt/losses/_segmentation.py. */
#ifndef FASTOPT_DICE_H
#define FASTOPT_DICE_H

#include "op.h"
#include "softmax.h"
#include "targets.h"

enum { GIVEN, SOFTMAX, SIGMOID }; /* how p is computed from x; numbered as in fastopt/losses/_segmentation.py */

#define TEMPLATE "ops/dice.h"
#include "../for_each_real.h"

#elif defined(real)

NOINLINE void NAME(probabilities)(const real *x, real *p, int64_t rows, int64_t columns, int form) {
    const double ones[LANES] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    if (form == SOFTMAX)
        for (int64_t first = 0; first < rows; first += LANES) {
            const int count = rows - first < LANES ? (int)(rows - first) : LANES;
            real row_max[LANES];
            double sums[LANES];
            NAME(scaled_softmax)(x + first * columns, count, p + first * columns, columns, ones, 1, row_max, sums);
        }
    else if (form == SIGMOID) {
        SIMD
        for (int64_t i = 0; i < rows * columns; i++)
            p[i] = NAME(sigmoid_pair)(x[i]).p;
    } else if (p != x)
        memcpy(p, x, (size_t)(rows * columns) * sizeof(real));
}

/* Load the target q of classes [first, first + count) of at most sixteen rows; of a label, 1 or 0. The class of a
 * single column is 1, and label 0 is the background. Rows whose label is ignore_index are not counted. */
NOINLINE void NAME(load_target)(const int64_t *labels, const real *target, int64_t ignore_index, int64_t row, int rows,
                              int64_t columns, int64_t first, int count, real tile[NARROW][LANES],
                              real counted[LANES]) {
    const int64_t first_label = columns == 1 ? 1 : first;
    int64_t label[LANES];
    for (int i = 0; i < LANES; i++)
        counted[i] = 1;
    if (!labels) {
        NAME(load_tile)(target + row * columns + first, rows, columns, count, tile);
        return;
    }
    for (int i = 0; i < rows; i++)
        counted[i] = labels[row + i] != ignore_index;
    for (int i = 0; i < LANES; i++)
        label[i] = i < rows && counted[i] != 0 ? labels[row + i] - first_label : -1;
    for (int k = 0; k < count; k++)
        FOR_LANES(i)
            tile[k][i] = label[i] == k ? 1 : 0;
}

/* p, and for each block of pixels the sums over p q, p (or p^2) and q (or q^2) of each class. The last block of an
 * image can be shorter. Pixel i of a block is added to lane i % 16. The range is one of blocks. Return 0, or -infinity
 * if a q is not in [0, 1]. */
OP_OF(dice_sums) {
    const int64_t columns = a.columns, blocks = (a.pixels + a.block - 1) / a.block; /* of an image */
    double result = 0;
    for (int64_t i = begin; i < end; i++) {
        const int64_t offset = i % blocks * a.block, start = i / blocks * a.pixels + offset;
        const int64_t stop = start + (a.pixels - offset < a.block ? a.pixels - offset : a.block);
        NAME(probabilities)(a.x + start * columns, a.p + start * columns, stop - start, columns, (int)a.form);
        for (int64_t first = 0; first < columns; first += NARROW) {
            const int count = columns - first < NARROW ? (int)(columns - first) : NARROW;
            double lanes[3][NARROW][LANES];
            for (int j = 0; j < 3; j++)
                memset(lanes[j], 0, (size_t)count * sizeof lanes[j][0]);
            for (int64_t row = start; row < stop; row += LANES) {
                const int rows = stop - row < LANES ? (int)(stop - row) : LANES;
                real p[NARROW][LANES], q[NARROW][LANES], counted[LANES];
                NAME(load_tile)(a.p + row * columns + first, rows, columns, count, p);
                NAME(load_target)(a.label, a.target, a.ignore_index, row, rows, columns, first, count, q, counted);
                for (int k = 0; k < count; k++)
                    FOR_LANES(lane) {
                        const double u = (double)(counted[lane] != 0 ? p[k][lane] : 0), v = (double)q[k][lane];
                        lanes[0][k][lane] += u * v;
                        lanes[1][k][lane] += a.squared ? u * u : u;
                        lanes[2][k][lane] += a.squared ? v * v : v;
                    }
            }
            for (int j = 0; j < 3; j++)
                for (int k = 0; k < count; k++)
                    a.sums[(3 * i + j) * columns + first + k] = fold(lanes[j][k]);
        }
        if (a.target)
            result = NAME(sum_or_outside)(result, a.target, start * columns, stop * columns);
    }
    return result;
}

/* p of some classes of at most sixteen rows, and the loss's derivative with respect to p. Aligned, because vectors
 * across two cache lines take 1.5 times as long. */
struct NAME(dice_tile) {
    _Alignas(64) real p[NARROW][LANES];
    _Alignas(64) real slope[NARROW][LANES];
    _Alignas(64) real counted[LANES];
};
INLINE void NAME(load_dice_tile)(struct NAME(dice_tile) *tile, ARGUMENTS(dice_grad) a, int64_t row, int rows,
                                 int64_t first, int count, int64_t image) {
    const real *target_slope = a.target_slope + image + first, *p_slope = a.p_slope + image + first;
    NAME(load_tile)(a.x + row * a.columns + first, rows, a.columns, count, tile->p);
    NAME(load_target)(a.label, a.target, a.ignore_index, row, rows, a.columns, first, count, tile->slope,
                      tile->counted);
    for (int k = 0; k < count; k++)
        FOR_LANES(i)
            tile->slope[k][i] =
                target_slope[k] * tile->slope[k][i] + (a.squared ? p_slope[k] * tile->p[k][i] : p_slope[k]);
}

/* x, which is p, becomes the gradient. The derivative with respect to p is target_slope q + p_slope, or
 * target_slope q + p_slope p if squared. Rows that are not counted have gradient 0. */
OP_OF(dice_grad) {
    const int64_t columns = a.columns;
    struct NAME(dice_tile) tile;
    for (int64_t row = begin, rows; row < end; row += rows) {
        const int64_t image = row / a.pixels, left = (image + 1) * a.pixels - row; /* rows of this image */
        const int64_t slopes = a.per_image ? image * columns : 0;
        rows = end - row < LANES ? end - row : LANES;
        rows = left < rows ? left : rows;
        real product[LANES] = {0};
        for (int64_t first = 0; a.form == SOFTMAX && first < columns; first += NARROW) {
            const int count = columns - first < NARROW ? (int)(columns - first) : NARROW;
            NAME(load_dice_tile)(&tile, a, row, (int)rows, first, count, slopes);
            for (int k = 0; k < count; k++)
                FOR_LANES(i)
                    product[i] += tile.p[k][i] * tile.slope[k][i];
        }
        for (int64_t first = 0; first < columns; first += NARROW) {
            const int count = columns - first < NARROW ? (int)(columns - first) : NARROW;
            if (a.form != SOFTMAX || columns > NARROW) /* else the only tile is still loaded */
                NAME(load_dice_tile)(&tile, a, row, (int)rows, first, count, slopes);
            for (int k = 0; k < count; k++)
                FOR_LANES(i) {
                    const real p = tile.p[k][i], slope = tile.slope[k][i];
                    const real grad = a.form == SOFTMAX   ? p * (slope - product[i])
                                      : a.form == SIGMOID ? p * (1 - p) * slope
                                                          : slope;
                    tile.slope[k][i] = tile.counted[i] != 0 ? grad : 0;
                }
            NAME(store_tile)(tile.slope, a.x + row * columns + first, (int)rows, columns, count);
        }
    }
    return 0;
}

#endif
