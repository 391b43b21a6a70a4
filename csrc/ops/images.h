/* Images: an inverse affine resampling, then contrast and brightness, then noise, then (of uint8) rounding, a block of
 * pixels of an output row at a time. Mirrors fastopt/augment.
 *
 * No pixel is a special case. The weight of a neighbor falls linearly to zero at a distance of one, so the two
 * neighbors along an axis can be moved inwards until both are in the image, and the weights stay right. The rest of the
 * weight, up to one, belongs to the border. All of this is vector arithmetic; only the neighbors are loaded one by one:
 * 256 x 64 x 64 floats took 1.5 ms, and 2.1 ms with the gathers of AVX-512. */
#ifndef FASTOPT_IMAGES_H
#define FASTOPT_IMAGES_H

#include "../math/exp_log.h"
#include "../math/random.h"
#include "../math/reduce.h"
#include "op.h"

enum { CONSTANT_BORDER, EDGE_BORDER, REFLECT_BORDER }; /* BORDERS in fastopt/augment/_images.py */
enum { TRANSFORM_SIZE = 8 };                           /* per image: a matrix by rows, gain, offset */
enum { BLOCK_VALUES = 4 * BLOCK };                     /* of a block; more than four channels make it shorter */
enum { MAX_PREFETCH = 1 << 18 };                       /* bytes of an image up to which prefetching pays */

/* Return the 1, 3 or 4 uint8 channels of a pixel in the low bytes of a word. For three channels four bytes are read:
 * one more of the next pixel or, for the right neighbor, of the previous one. */
INLINE uint32_t load_channels(const uint8_t *pixel, int channels, bool is_right) {
    const int before = channels == 3 && is_right;
    uint32_t word;
    if (channels == 1)
        return *pixel;
    memcpy(&word, pixel - before, sizeof word);
    return word >> 8 * before;
}

/* Prefetch a share of the next image while this one is computed: the processor does not foresee the access pattern of
 * a rotated image. It halved the time of float32, 256 x 64 x 64 x 3. Past the last image, a prefetch does nothing. */
INLINE void prefetch_next(const char *image, int64_t bytes, int64_t row, int64_t rows) {
    if (bytes <= MAX_PREFETCH)
        for (int64_t i = row * bytes / rows; i < (row + 1) * bytes / rows; i += 64)
            __builtin_prefetch(image + bytes + i);
}

#define TEMPLATE "ops/images.h"
#include "../for_each_real.h"

#elif defined(real)

/* The rows or the columns of an input image. */
struct NAME(axis) {
    real min, max; /* coordinates beyond these count as these */
    real period;   /* of reflections */
    int32_t last;  /* the last first neighbor */
    int32_t step;  /* pixels from the first to the second neighbor: 0 in an axis of size 1 */
    real distance; /* between them in weight; in an axis of size 1 so large that the second has no weight */
};

INLINE struct NAME(axis) NAME(make_axis)(int64_t size, int border) {
    const bool constant = border == CONSTANT_BORDER, several = size > 1;
    return (struct NAME(axis)){
        .min = constant ? -1 : 0,
        .max = (real)(constant ? size : size - 1),
        .period = (real)(2 * (size - 1)),
        .last = several ? (int32_t)size - 2 : 0,
        .step = several,
        .distance = several ? 1 : 2,
    };
}

INLINE real NAME(linear_weight)(real distance) {
    const real weight = 1 - NAME(fabs)(distance);
    return weight > 0 ? weight : 0;
}

/* Limit a coordinate to the axis. NaN counts as the minimum. */
INLINE real NAME(clamp)(real x, struct NAME(axis) axis) {
    const real above = x > axis.min ? x : axis.min;
    return above < axis.max ? above : axis.max;
}

/* The two neighbors of a coordinate: the index of the first, and the weights of both. */
struct NAME(neighbours) {
    int32_t first;
    real first_weight, second_weight;
};
INLINE struct NAME(neighbours) NAME(find_neighbours)(real x, struct NAME(axis) axis) {
    const real inside = NAME(clamp)(x, axis);
    const int32_t whole = (int32_t)(inside > 0 ? inside : 0), first = whole < axis.last ? whole : axis.last;
    const real distance = inside - (real)first;
    return (struct NAME(neighbours)){
        first, NAME(linear_weight)(distance), NAME(linear_weight)(distance - axis.distance)};
}

/* Reflect without repeating the edge: a coordinate is equivalent to its distance from the nearest multiple of the
 * period. */
INLINE void NAME(reflect)(real *x, real period, int count) {
    SIMD
    for (int k = 0; k < count; k++)
        x[k] = NAME(fabs)(x[k] - period * NAME(rint)(x[k] / period));
}

/* The input images. */
struct NAME(source) {
    struct NAME(axis) rows, columns;
    int64_t pitch, channels, size; /* elements of a row, of a pixel, of an image */
    bool reflects;
    real fill;
};

/* The source of the pixels of a block: the index of the top left neighbor, and the weights. */
struct NAME(block) {
    int32_t corner[BLOCK];
    real top[BLOCK], bottom[BLOCK], left[BLOCK], right[BLOCK];
};

NOINLINE void NAME(locate)(struct NAME(block) *block, const struct NAME(source) *source, const double *t, int64_t i,
                         int64_t j, int count) {
    const struct NAME(axis) rows = source->rows, columns = source->columns;
    const real y0 = (real)(t[0] * (double)i + t[2]), y_step = (real)t[1];
    const real x0 = (real)(t[3] * (double)i + t[5]), x_step = (real)t[4];
    const int32_t begin = (int32_t)j, pitch = (int32_t)source->pitch, channels = (int32_t)source->channels;
    real y[BLOCK], x[BLOCK];
    SIMD
    for (int k = 0; k < count; k++) {
        y[k] = y0 + (real)(begin + k) * y_step;
        x[k] = x0 + (real)(begin + k) * x_step;
    }
    if (source->reflects) {
        NAME(reflect)(y, rows.period, count);
        NAME(reflect)(x, columns.period, count);
    }
    SIMD
    for (int k = 0; k < count; k++) {
        const struct NAME(neighbours) v = NAME(find_neighbours)(y[k], rows), h = NAME(find_neighbours)(x[k], columns);
        block->corner[k] = v.first * pitch + h.first * channels;
        block->top[k] = v.first_weight;
        block->bottom[k] = v.second_weight;
        block->left[k] = h.first_weight;
        block->right[k] = h.second_weight;
    }
}

/* Interpolate the pixels of a block: `channels` (1, 3 or 4) at once, of `stride` that a pixel has. */
INLINE void NAME(blend)(real *values, const void *image, bool bytes, const struct NAME(block) *block,
                        const struct NAME(source) *source, const double *t, int channels, int64_t stride, int count) {
    const int64_t to_right = source->columns.step * source->channels, down = source->rows.step * source->pitch;
    const int64_t offsets[4] = {0, to_right, down, down + to_right};
    const real gain = (real)t[6], offset = (real)t[7], fill = source->fill;
    uint32_t words[4][BLOCK];
    real reals[4][BLOCK_VALUES];
    for (int k = 0; k < count; k++) {
        UNROLL
        for (int n = 0; n < 4; n++) {
            const int64_t place = block->corner[k] + offsets[n];
            if (bytes)
                words[n][k] = load_channels((const uint8_t *)image + place, channels, n & 1);
            else
                memcpy(&reals[n][channels * k], (const real *)image + place, (size_t)channels * sizeof(real));
        }
    }
    SIMD
    for (int k = 0; k < count; k++) {
        const real top = block->top[k], bottom = block->bottom[k], left = block->left[k], right = block->right[k];
        const real outside = (1 - (top + bottom) * (left + right)) * fill;
        UNROLL
        for (int c = 0; c < channels; c++) {
#define NEIGHBOUR(n) (bytes ? (real)(int32_t)(words[n][k] >> 8 * c & 255) : reals[n][channels * k + c])
            const real upper = left * NEIGHBOUR(0) + right * NEIGHBOUR(1);
            const real lower = left * NEIGHBOUR(2) + right * NEIGHBOUR(3);
#undef NEIGHBOUR
            values[stride * k + c] = gain * (top * upper + bottom * lower + outside) + offset;
        }
    }
}

/* Draw normal numbers in pairs (Box & Muller 1958): sqrt(-2 log(u)) times cosine and sine of an angle. The angle is a
 * multiple of a quarter turn plus at most an eighth of a turn, for which these terms of the series are exact to 2^-25.
 * u is at least 2^-32, so no number exceeds 6.7. */
INLINE void NAME(draw_normals)(real x[RANDOM_BLOCK], struct philox_key key, int64_t block) {
    enum { HALF = RANDOM_BLOCK / 2 };
    uint32_t words[RANDOM_BLOCK];
    random_block(words, key, block);
    SIMD
    for (int k = 0; k < HALF; k++) {
        const real u = ((real)(int32_t)(words[k] >> 1) + (real)0.5) * (real)0x1p-31;
        const real radius = NAME(sqrt)(-2 * NAME(log)(u));
        const uint32_t quarters = (words[HALF + k] + 0x20000000u) >> 30;
        const real angle = (real)(int32_t)(words[HALF + k] - (quarters << 30)) * (real)0x1.921fb54442d18p-30;
        const real z = angle * angle;
        const real sine_series = ((z * (real)(1 / 362880.) - (real)(1 / 5040.)) * z + (real)(1 / 120.)) * z
                                 - (real)(1 / 6.);
        const real cosine_series = ((z * (real)(1 / 40320.) - (real)(1 / 720.)) * z + (real)(1 / 24.)) * z - (real)0.5;
        const real sine = angle + angle * z * sine_series, cosine = 1 + z * cosine_series;
        const real first = quarters & 1 ? sine : cosine, second = quarters & 1 ? cosine : sine;
        x[k] = radius * ((quarters + 1) & 2 ? -first : first);
        x[HALF + k] = radius * (quarters & 2 ? -second : second);
    }
}

struct NAME(noise) {
    struct philox_key key;
    real deviation;
    int64_t block; /* the random block in normals: the next pixels often continue in it */
    real normals[RANDOM_BLOCK];
};

/* Add noise to consecutive elements of an image, whose first element is the first one of first_block. */
NOINLINE void NAME(add_noise)(real *values, int count, struct NAME(noise) *noise, int64_t first_block,
                              int64_t element) {
    for (int k = 0; k < count;) {
        const int64_t block = first_block + (element + k) / RANDOM_BLOCK;
        const int from = (int)((element + k) % RANDOM_BLOCK), left = RANDOM_BLOCK - from;
        const int used = count - k < left ? count - k : left;
        if (block != noise->block)
            NAME(draw_normals)(noise->normals, noise->key, block);
        noise->block = block;
        SIMD
        for (int q = 0; q < used; q++)
            values[k + q] += noise->deviation * noise->normals[from + q];
        k += used;
    }
}

/* Clip to [0, 255] and round half to even. */
INLINE void NAME(to_bytes)(uint8_t *bytes, const real *values, int count) {
    SIMD
    for (int k = 0; k < count; k++) {
        const real above = values[k] > 0 ? values[k] : 0, inside = above < 255 ? above : 255;
        bytes[k] = (uint8_t)(int32_t)NAME(rint)(inside);
    }
}

/* Compute rows [begin, end) of all output images, which follow each other. */
INLINE void NAME(resample)(ARGUMENTS(affine) a, const bool bytes, int64_t begin, int64_t end) {
    const int64_t channels = a.channels, item = bytes ? 1 : sizeof(real);
    const int64_t out_pitch = a.out_width * channels, out_size = a.out_height * out_pitch;
    const int64_t random_blocks = (out_size + RANDOM_BLOCK - 1) / RANDOM_BLOCK; /* of an image */
    const int64_t block_pixels = BLOCK_VALUES / (channels > 4 ? channels : 4);
    const bool together = a.width > 1 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__;
    const struct NAME(source) source = {
        .rows = NAME(make_axis)(a.height, (int)a.border),
        .columns = NAME(make_axis)(a.width, (int)a.border),
        .pitch = a.width * channels,
        .channels = channels,
        .size = a.height * a.width * channels,
        .reflects = a.border == REFLECT_BORDER,
        .fill = (real)a.fill,
    };
    struct NAME(noise) noise = {
        .key = {a.seed, (uint64_t)a.step, NOISE_STREAM}, .deviation = (real)a.noise, .block = -1};
    for (int64_t row = begin; row < end; row++) {
        const int64_t n = row / a.out_height, i = row % a.out_height;
        const double *t = a.transforms + TRANSFORM_SIZE * n;
        const char *image = (const char *)a.x + n * source.size * item;
        prefetch_next(image, source.size * item, i, a.out_height);
        for (int64_t j = 0; j < a.out_width; j += block_pixels) {
            const int pixels = (int)(a.out_width - j < block_pixels ? a.out_width - j : block_pixels);
            const int count = pixels * (int)channels;
            const int64_t place = i * out_pitch + j * channels;
            char *out = (char *)a.y + (n * out_size + place) * item;
            struct NAME(block) block;
            real values[BLOCK_VALUES];
            NAME(locate)(&block, &source, t, i, j, pixels);
            if (channels == 1)
                NAME(blend)(values, image, bytes, &block, &source, t, 1, 1, pixels);
            else if (channels == 3 && together)
                NAME(blend)(values, image, bytes, &block, &source, t, 3, 3, pixels);
            else if (channels == 4 && together)
                NAME(blend)(values, image, bytes, &block, &source, t, 4, 4, pixels);
            else
                for (int64_t c = 0; c < channels; c++)
                    NAME(blend)(values + c, image + c * item, bytes, &block, &source, t, 1, channels, pixels);
            if (noise.deviation != 0)
                NAME(add_noise)(values, count, &noise, a.index[n] * random_blocks, place);
            if (bytes)
                NAME(to_bytes)((uint8_t *)out, values, count);
            else
                memcpy(out, values, (size_t)count * sizeof(real));
        }
    }
}

OP_OF(affine) {
    if (a.bytes && sizeof(real) == sizeof(float)) /* images of uint8 are computed in float */
        NAME(resample)(a, true, begin, end);
    else
        NAME(resample)(a, false, begin, end);
    return 0;
}

#endif
