/* Softmax of rows: exp(x - row_max), and its sums.
 *
 * Sums have a fixed shape: element i of a row is added to lane i % 16. A lane adds a block in the type itself, and the
 * blocks in double; the lanes are folded by halves.
 * A vector runs along a wide row, one row at a time, or across sixteen narrow rows, which are transposed for that. */
#ifndef FASTOPT_SOFTMAX_H
#define FASTOPT_SOFTMAX_H

#include "../math/exp_log.h"
#include "../math/reduce.h"

/* Columns of a narrow row: sixteen rows fit into the first-level cache, and a lane adds at most one block. */
#define NARROW 64

#define TEMPLATE "ops/softmax.h"
#include "../for_each_real.h"

#elif defined(real)

/* Copy count < LANES elements and fill the rest: one vector instead of up to fifteen numbers. */
INLINE void NAME(load_padded)(real lanes[LANES], const real *x, int64_t count, real padding) {
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = lane < count ? x[lane] : padding;
}

INLINE void NAME(max_into)(real lanes[LANES], const real *x) {
    FOR_LANES(lane)
        lanes[lane] = x[lane] > lanes[lane] ? x[lane] : lanes[lane];
}

INLINE real NAME(max_of)(const real *x, int64_t count) {
    real lanes[LANES], rest[LANES], max = x[0];
    int64_t i = 0;
    NAME(load_padded)(lanes, x, 0, x[0]);
    for (; i + LANES <= count; i += LANES)
        NAME(max_into)(lanes, x + i);
    NAME(load_padded)(rest, x + i, count - i, x[0]);
    NAME(max_into)(lanes, rest);
    for (int lane = 0; lane < LANES; lane++)
        max = lanes[lane] > max ? lanes[lane] : max;
    return max;
}

/* y = exp(x - max), and add it to the sums of a block. */
INLINE void NAME(exp_into)(real block_sums[LANES], const real *x, const real max[LANES], real *y) {
    FOR_LANES(lane) {
        const real e = NAME(exp)(x[lane] - max[lane]);
        y[lane] = e;
        block_sums[lane] += e;
    }
}

INLINE void NAME(add_block)(double sums[LANES], const real block_sums[LANES]) {
    FOR_LANES(lane)
        sums[lane] += (double)block_sums[lane];
}

/* y = exp(x - row_max) of a wide row; return the sum. A lane adds the BLOCK / LANES elements of a block in the type
 * itself, because a conversion costs half as much as exp. */
INLINE double NAME(wide_exp)(const real *x, real row_max, real *y, int64_t columns) {
    double sums[LANES] = {0};
    real max[LANES], rest[LANES];
    NAME(load_padded)(max, x, 0, row_max);
    for (int64_t i = 0; i < columns;) {
        const int64_t stop = columns - i < BLOCK ? columns : i + BLOCK;
        real block_sums[LANES] = {0};
        for (; i + LANES <= stop; i += LANES)
            NAME(exp_into)(block_sums, x + i, max, y + i);
        if (i < stop) {
            NAME(load_padded)(rest, x + i, stop - i, -REAL_INFINITY); /* exp is 0 */
            NAME(exp_into)(block_sums, rest, max, rest);
            memcpy(y + i, rest, (size_t)(stop - i) * sizeof(real));
            i = stop;
        }
        NAME(add_block)(sums, block_sums);
    }
    return fold(sums);
}

INLINE void NAME(copy_to_tile)(const real *x, int rows, int64_t stride, int columns, real tile[NARROW][LANES]) {
    for (int k = 0; k < columns; k++)
        UNROLL
        for (int row = 0; row < rows; row++)
            tile[k][row] = x[row * stride + k];
}

INLINE void NAME(copy_from_tile)(real tile[NARROW][LANES], real *y, int rows, int64_t stride, int columns) {
    for (int k = 0; k < columns; k++)
        UNROLL
        for (int row = 0; row < rows; row++)
            y[row * stride + k] = tile[k][row];
}

/* Transpose some columns of at most sixteen rows, so that a vector runs across the rows. Missing rows are zero. */
NOINLINE void NAME(load_tile)(const real *x, int rows, int64_t stride, int columns, real tile[NARROW][LANES]) {
    if (rows == LANES) { /* a constant for the compiler */
        NAME(copy_to_tile)(x, LANES, stride, columns, tile);
        return;
    }
    memset(tile, 0, (size_t)columns * sizeof tile[0]);
    NAME(copy_to_tile)(x, rows, stride, columns, tile);
}

NOINLINE void NAME(store_tile)(real tile[NARROW][LANES], real *y, int rows, int64_t stride, int columns) {
    if (rows == LANES)
        NAME(copy_from_tile)(tile, y, LANES, stride, columns);
    else
        NAME(copy_from_tile)(tile, y, rows, stride, columns);
}

/* tile = exp(tile - row_max), and its sums. Lanes beyond the columns are zero and left out. */
INLINE void NAME(narrow_exp)(real tile[NARROW][LANES], int columns, real row_max[LANES], double sums[LANES]) {
    real block_sums[LANES][LANES];
    double lanes[LANES][LANES];
    const int used = columns < LANES ? columns : LANES;
    memset(block_sums, 0, (size_t)used * sizeof block_sums[0]);
    memset(lanes, 0, (size_t)used * sizeof lanes[0]);
    memcpy(row_max, tile[0], sizeof tile[0]);
    for (int k = 1; k < columns; k++)
        NAME(max_into)(row_max, tile[k]);
    for (int k = 0; k < columns; k++)
        NAME(exp_into)(block_sums[k % LANES], tile[k], row_max, tile[k]);
    for (int i = 0; i < used; i++)
        NAME(add_block)(lanes[i], block_sums[i]);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half && i + half < used; i++)
            FOR_LANES(row)
                lanes[i][row] += lanes[i + half][row];
    memcpy(sums, lanes[0], sizeof lanes[0]);
}

/* y = softmax(x) * totals * factor of at most sixteen rows. row_max and sums are those of exp(x - row_max). */
NOINLINE void NAME(scaled_softmax)(const real *x, int rows, real *y, int64_t columns, const double totals[LANES],
                                 real factor, real row_max[LANES], double sums[LANES]) {
    if (columns <= NARROW) {
        real tile[NARROW][LANES], scales[LANES];
        NAME(load_tile)(x, rows, columns, (int)columns, tile);
        NAME(narrow_exp)(tile, (int)columns, row_max, sums);
        FOR_LANES(row)
            scales[row] = (real)(totals[row] / sums[row]) * factor;
        for (int k = 0; k < columns; k++)
            FOR_LANES(row)
                tile[k][row] *= scales[row];
        NAME(store_tile)(tile, y, rows, columns, (int)columns);
        return;
    }
    for (int row = 0; row < rows; row++) {
        const real *x_row = x + row * columns;
        real *y_row = y + row * columns;
        row_max[row] = NAME(max_of)(x_row, columns);
        sums[row] = NAME(wide_exp)(x_row, row_max[row], y_row, columns);
        const real scale = (real)(totals[row] / sums[row]) * factor;
        SIMD
        for (int64_t k = 0; k < columns; k++)
            y_row[k] *= scale;
    }
}

#endif
