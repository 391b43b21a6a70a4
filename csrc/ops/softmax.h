/* exp(x - most) of rows, most the largest of the row, and the sums of that: what softmax is made of.
 *
 * A sum has a fixed shape: the i-th of a row goes to lane i % 16, where sixteen are added up in the type itself and
 * what they give in double; the lanes are folded by halves.
 * Wide rows are done one by one, a vector along the row; narrow ones sixteen at a time, a vector across the rows. */

#ifndef RUN
#define RUN 16    /* numbers of a lane that are added up in the type itself: conversion costs as much as half an exp */
#define NARROW 64 /* columns: what fits into the first-level cache sixteen times, and into a run */
#endif

/* Sixteen at a time: what is left of a row is filled up, so that it takes one vector and not fifteen numbers. */
INLINE void NAME(fill_up)(real piece[LANES], const real *x, int64_t count, real filling) {
    for (int lane = 0; lane < LANES; lane++)
        piece[lane] = lane < count ? x[lane] : filling;
}

INLINE void NAME(take_larger)(real lanes[LANES], const real *x) {
    SIMD
    for (int lane = 0; lane < LANES; lane++)
        lanes[lane] = x[lane] > lanes[lane] ? x[lane] : lanes[lane];
}

INLINE real NAME(largest)(const real *x, int64_t count) {
    real lanes[LANES], rest[LANES], most = x[0];
    int64_t i = 0;
    NAME(fill_up)(lanes, x, 0, x[0]);
    for (; i + LANES <= count; i += LANES)
        NAME(take_larger)(lanes, x + i);
    NAME(fill_up)(rest, x + i, count - i, x[0]);
    NAME(take_larger)(lanes, rest);
    for (int lane = 0; lane < LANES; lane++)
        most = lanes[lane] > most ? lanes[lane] : most;
    return most;
}

/* y = exp(x - most); adds it to a run. */
INLINE void NAME(add_exponentials)(real run[LANES], const real *x, const real most[LANES], real *y) {
    SIMD
    for (int lane = 0; lane < LANES; lane++) {
        const real e = NAME(exponential)(x[lane] - most[lane]);
        y[lane] = e;
        run[lane] += e;
    }
}

INLINE void NAME(add_run)(double sums[LANES], const real run[LANES]) {
    SIMD
    for (int lane = 0; lane < LANES; lane++)
        sums[lane] += (double)run[lane];
}

INLINE double NAME(wide_exponentials)(const real *x, real most, real *y, int64_t columns) {
    double sums[LANES] = {0};
    real mosts[LANES], rest[LANES];
    NAME(fill_up)(mosts, x, 0, most);
    for (int64_t i = 0; i < columns;) {
        const int64_t stop = columns - i < RUN * LANES ? columns : i + RUN * LANES;
        real run[LANES] = {0};
        for (; i + LANES <= stop; i += LANES)
            NAME(add_exponentials)(run, x + i, mosts, y + i);
        if (i < stop) {
            NAME(fill_up)(rest, x + i, stop - i, -PICK(__builtin_inff(), __builtin_inf())); /* exp: 0 */
            NAME(add_exponentials)(run, rest, mosts, rest);
            memcpy(y + i, rest, (size_t)(stop - i) * sizeof(real));
            i = stop;
        }
        NAME(add_run)(sums, run);
    }
    return fold(sums);
}

INLINE void NAME(copy_to_tile)(const real *x, int rows, int64_t stride, int columns, real tile[NARROW][LANES]) {
    for (int k = 0; k < columns; k++)
        for (int row = 0; row < rows; row++)
            tile[k][row] = x[row * stride + k];
}

INLINE void NAME(copy_from_tile)(real tile[NARROW][LANES], real *y, int rows, int64_t stride, int columns) {
    for (int k = 0; k < columns; k++)
        for (int row = 0; row < rows; row++)
            y[row * stride + k] = tile[k][row];
}

/* Some columns of at most sixteen rows, turned so that a vector goes across the rows; what is missing is zero. */
INLINE void NAME(load_tile)(const real *x, int rows, int64_t stride, int columns, real tile[NARROW][LANES]) {
    if (rows == LANES) { /* a number that the compiler knows */
        NAME(copy_to_tile)(x, LANES, stride, columns, tile);
        return;
    }
    memset(tile, 0, (size_t)columns * sizeof tile[0]);
    NAME(copy_to_tile)(x, rows, stride, columns, tile);
}

INLINE void NAME(store_tile)(real tile[NARROW][LANES], real *y, int rows, int64_t stride, int columns) {
    if (rows == LANES)
        NAME(copy_from_tile)(tile, y, LANES, stride, columns);
    else
        NAME(copy_from_tile)(tile, y, rows, stride, columns);
}

/* tile = exp(tile - most); lanes that no column has are zero and left out. */
INLINE void NAME(narrow_exponentials)(real tile[NARROW][LANES], int columns, real most[LANES], double sums[LANES]) {
    real runs[LANES][LANES];
    double lanes[LANES][LANES];
    const int used = columns < LANES ? columns : LANES;
    memset(runs, 0, (size_t)used * sizeof runs[0]);
    memset(lanes, 0, (size_t)used * sizeof lanes[0]);
    memcpy(most, tile[0], sizeof tile[0]);
    for (int k = 1; k < columns; k++)
        NAME(take_larger)(most, tile[k]);
    for (int k = 0; k < columns; k++)
        NAME(add_exponentials)(runs[k % LANES], tile[k], most, tile[k]);
    for (int i = 0; i < used; i++)
        NAME(add_run)(lanes[i], runs[i]);
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half && i + half < used; i++) {
            SIMD
            for (int row = 0; row < LANES; row++)
                lanes[i][row] += lanes[i + half][row];
        }
    memcpy(sums, lanes[0], sizeof lanes[0]);
}
