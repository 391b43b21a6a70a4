/* Images: one inverse-affine resampling, then contrast and brightness, then noise, then (of uint8) rounding, a strip of
 * an output row at a time. Mirrors fastopt/augment.py.
 *
 * No pixel is a special case. The weight of a neighbour falls linearly to zero at a distance of one; so the two
 * neighbours along an axis may be moved inwards until both are in the image, and they count as much as they should.
 * What their weights lack of one belongs to the border. All that is vector arithmetic; only the neighbours themselves
 * are fetched one by one: 256 x 64 x 64 floats took 1.5 ms so, and 2.1 with the gathers of AVX-512. */

#ifndef STRIP
#define STRIP 256 /* pixels of an output row */

enum { CONSTANT_BORDER, EDGE_BORDER, REFLECT_BORDER }; /* BORDERS in fastopt/augment.py */
enum { TRANSFORM = 8 };                                /* numbers: a matrix by rows, gain, offset */
enum { VALUES = 4 * STRIP };                           /* of a strip: pixels of many channels make a shorter one */
enum { AHEAD = 1 << 18 };                              /* bytes of an image that is worth fetching ahead */

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
enum { LITTLE_ENDIAN_BYTES = 1 };
#else
enum { LITTLE_ENDIAN_BYTES = 0 };
#endif

/* The uint8 channels of a pixel, 1, 3 or 4, in the low bytes of a word. For three, four bytes are read: one more of the
 * pixel behind, or, where that is the pixel, one more of the pixel before. */
INLINE uint32_t channels_of(const uint8_t *pixel, int channels, bool behind) {
    const int before = channels == 3 && behind;
    uint32_t word;
    if (channels == 1)
        return *pixel;
    memcpy(&word, pixel - before, sizeof word);
    return word >> 8 * before;
}

/* A share of the next image, while this one is computed: rows of a rotated image are no pattern that the processor
 * foresees. Of float32, 256 x 64 x 64 x 3, it halved the time. Behind the last image nothing is fetched and nothing
 * breaks. */
INLINE void fetch_ahead(const char *image, int64_t bytes, int64_t row, int64_t rows) {
    if (bytes <= AHEAD)
        for (int64_t i = row * bytes / rows; i < (row + 1) * bytes / rows; i += 64)
            __builtin_prefetch(image + bytes + i);
}
#endif

/* The rows or the columns of an input image. */
struct NAME(axis) {
    real least, most; /* coordinates that differ */
    real period;      /* of reflections */
    int32_t last;     /* of the nearer neighbours */
    int32_t step;     /* to the further one, in pixels */
    real reach;       /* and in weight: a single row has no other, which is too far to weigh anything */
};

INLINE struct NAME(axis) NAME(axis_of)(int64_t size, int border) {
    const bool constant = border == CONSTANT_BORDER, several = size > 1;
    return (struct NAME(axis)){
        .least = constant ? -1 : 0,
        .most = (real)(constant ? size : size - 1),
        .period = (real)(2 * (size - 1)),
        .last = several ? (int32_t)size - 2 : 0,
        .step = several,
        .reach = several ? 1 : 2,
    };
}

INLINE real NAME(tent)(real distance) {
    const real weight = 1 - NAME(magnitude)(distance);
    return weight > 0 ? weight : 0;
}

/* The neighbours of a coordinate and their weights. What is not a number counts as the least coordinate. */
struct NAME(neighbours) {
    int32_t near;
    real of_near, of_far;
};
INLINE struct NAME(neighbours) NAME(neighbours_of)(real x, struct NAME(axis) axis) {
    const real above = x > axis.least ? x : axis.least, inside = above < axis.most ? above : axis.most;
    const int32_t whole = (int32_t)(inside > 0 ? inside : 0), near = whole < axis.last ? whole : axis.last;
    const real distance = inside - (real)near;
    return (struct NAME(neighbours)){near, NAME(tent)(distance), NAME(tent)(distance - axis.reach)};
}

/* Without a repeated edge, a coordinate is as good as its distance from the nearest multiple of the period. */
INLINE void NAME(reflect)(real *x, real period, int count) {
    SIMD
    for (int k = 0; k < count; k++)
        x[k] = NAME(magnitude)(x[k] - period * NAME(round)(x[k] / period));
}

struct NAME(source) {
    struct NAME(axis) rows, columns;
    int64_t pitch, channels, size; /* elements of a row, of a pixel, of an image */
    bool reflects;
    real fill;
};

/* Where the pixels of a strip come from: the neighbour before and above, and the weights of all. */
struct NAME(strip) {
    int32_t corner[STRIP];
    real above[STRIP], below[STRIP], before[STRIP], behind[STRIP];
};

INLINE void NAME(locate)(struct NAME(strip) *strip, const struct NAME(source) *source, const double *t, int64_t i,
                         int64_t j, int count) {
    const struct NAME(axis) rows = source->rows, columns = source->columns;
    const real y0 = (real)(t[0] * (double)i + t[2]), y_step = (real)t[1];
    const real x0 = (real)(t[3] * (double)i + t[5]), x_step = (real)t[4];
    const int32_t begin = (int32_t)j, pitch = (int32_t)source->pitch, channels = (int32_t)source->channels;
    real y[STRIP], x[STRIP];
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
        const struct NAME(neighbours) v = NAME(neighbours_of)(y[k], rows), h = NAME(neighbours_of)(x[k], columns);
        strip->corner[k] = v.near * pitch + h.near * channels;
        strip->above[k] = v.of_near;
        strip->below[k] = v.of_far;
        strip->before[k] = h.of_near;
        strip->behind[k] = h.of_far;
    }
}

/* Pixels of a strip, or one of their channels: `some` at once, 1, 3 or 4, of `all`. */
INLINE void NAME(blend)(real *values, const void *image, bool bytes, const struct NAME(strip) *strip,
                        const struct NAME(source) *source, const double *t, int some, int64_t all, int count) {
    const int64_t right = source->columns.step * source->channels, down = source->rows.step * source->pitch;
    const int64_t to[4] = {0, right, down, down + right};
    const real gain = (real)t[6], offset = (real)t[7], fill = source->fill;
    uint32_t of_bytes[4][STRIP];
    real of_reals[4][4 * STRIP];
    for (int k = 0; k < count; k++) {
        for (int n = 0; n < 4; n++) {
            const int64_t place = strip->corner[k] + to[n];
            if (bytes)
                of_bytes[n][k] = channels_of((const uint8_t *)image + place, some, n & 1);
            else
                memcpy(&of_reals[n][some * k], (const real *)image + place, (size_t)some * sizeof(real));
        }
    }
    SIMD
    for (int k = 0; k < count; k++) {
        const real above = strip->above[k], below = strip->below[k];
        const real before = strip->before[k], behind = strip->behind[k];
        const real outside = (1 - (above + below) * (before + behind)) * fill;
        for (int c = 0; c < some; c++) {
#define CORNER(n) (bytes ? (real)(int32_t)(of_bytes[n][k] >> 8 * c & 255) : of_reals[n][some * k + c])
            const real upper = before * CORNER(0) + behind * CORNER(1);
            const real lower = before * CORNER(2) + behind * CORNER(3);
#undef CORNER
            values[all * k + c] = gain * (above * upper + below * lower + outside) + offset;
        }
    }
}

/* Normal numbers in pairs (Box & Muller 1958): sqrt(-2 log(u)) times cosine and sine of an angle. The angle is a whole
 * number of quarter turns and at most an eighth of a turn either way, for which so many terms of the series are exact
 * to 2^-25. u is at least 2^-32: no number is further out than 6.7. */
INLINE void NAME(normals)(real x[RANDOM_BLOCK], struct philox_key key, int64_t block) {
    enum { HALF = RANDOM_BLOCK / 2 };
    uint32_t words[RANDOM_BLOCK];
    random_block(words, key, block);
    SIMD
    for (int k = 0; k < HALF; k++) {
        const real u = ((real)(int32_t)(words[k] >> 1) + (real)0.5) * (real)0x1p-31;
        const real radius = NAME(square_root)(-2 * NAME(logarithm)(u));
        const uint32_t quarters = (words[HALF + k] + 0x20000000u) >> 30;
        const real angle = (real)(int32_t)(words[HALF + k] - (quarters << 30)) * (real)0x1.921fb54442d18p-30;
        const real z = angle * angle;
        const real of_sine = ((z * (real)(1 / 362880.) - (real)(1 / 5040.)) * z + (real)(1 / 120.)) * z
                             - (real)(1 / 6.);
        const real of_cosine = ((z * (real)(1 / 40320.) - (real)(1 / 720.)) * z + (real)(1 / 24.)) * z - (real)0.5;
        const real sine = angle + angle * z * of_sine, cosine = 1 + z * of_cosine;
        const real across = quarters & 1 ? sine : cosine, along = quarters & 1 ? cosine : sine;
        x[k] = radius * ((quarters + 1) & 2 ? -across : across);
        x[HALF + k] = radius * (quarters & 2 ? -along : along);
    }
}

struct NAME(noise) {
    struct philox_key key;
    real deviation;
    int64_t block; /* whose numbers these are: the next strip often goes on within it */
    real normals[RANDOM_BLOCK];
};

/* Elements of an image from one on, where its first element is the first of a block. */
INLINE void NAME(add_noise)(real *values, int count, struct NAME(noise) *noise, int64_t first_block, int64_t element) {
    for (int k = 0; k < count;) {
        const int64_t block = first_block + (element + k) / RANDOM_BLOCK;
        const int from = (int)((element + k) % RANDOM_BLOCK), left = RANDOM_BLOCK - from;
        const int run = count - k < left ? count - k : left;
        if (block != noise->block)
            NAME(normals)(noise->normals, noise->key, block);
        noise->block = block;
        SIMD
        for (int q = 0; q < run; q++)
            values[k + q] += noise->deviation * noise->normals[from + q];
        k += run;
    }
}

/* Half to even. */
INLINE void NAME(to_bytes)(uint8_t *bytes, const real *values, int count) {
    SIMD
    for (int k = 0; k < count; k++) {
        const real above = values[k] > 0 ? values[k] : 0, inside = above < 255 ? above : 255;
        bytes[k] = (uint8_t)(int32_t)NAME(round)(inside);
    }
}

/* Rows [begin, end) of all output images, one behind the other. */
INLINE void NAME(resample)(void *const *a, const double *n, int64_t begin, int64_t end, bool bytes) {
    const int64_t height = (int64_t)n[0], width = (int64_t)n[1], channels = (int64_t)n[2];
    const int64_t out_height = (int64_t)n[3], out_width = (int64_t)n[4];
    const int64_t out_pitch = out_width * channels, out_size = out_height * out_pitch;
    const int64_t blocks = (out_size + RANDOM_BLOCK - 1) / RANDOM_BLOCK, *index = a[3];
    const int64_t most = VALUES / (channels > 4 ? channels : 4), element = bytes ? 1 : sizeof(real);
    const int border = (int)n[5];
    const bool together = width > 1 && LITTLE_ENDIAN_BYTES;
    const struct NAME(source) source = {
        .rows = NAME(axis_of)(height, border),
        .columns = NAME(axis_of)(width, border),
        .pitch = width * channels,
        .channels = channels,
        .size = height * width * channels,
        .reflects = border == REFLECT_BORDER,
        .fill = (real)n[6],
    };
    struct NAME(noise) noise = {.key = key_of(n[8], n[9], n[10], NOISE_STREAM), .deviation = (real)n[7], .block = -1};
    for (int64_t row = begin; row < end; row++) {
        const int64_t which = row / out_height, i = row % out_height;
        const double *t = (const double *)a[2] + TRANSFORM * which;
        const char *image = (const char *)a[0] + which * source.size * element;
        fetch_ahead(image, source.size * element, i, out_height);
        for (int64_t j = 0; j < out_width; j += most) {
            const int pixels = (int)(out_width - j < most ? out_width - j : most), count = pixels * (int)channels;
            const int64_t place = i * out_pitch + j * channels;
            char *out = (char *)a[1] + (which * out_size + place) * element;
            struct NAME(strip) strip;
            real values[VALUES];
            NAME(locate)(&strip, &source, t, i, j, pixels);
            if (channels == 1)
                NAME(blend)(values, image, bytes, &strip, &source, t, 1, 1, pixels);
            else if (channels == 3 && together)
                NAME(blend)(values, image, bytes, &strip, &source, t, 3, 3, pixels);
            else if (channels == 4 && together)
                NAME(blend)(values, image, bytes, &strip, &source, t, 4, 4, pixels);
            else
                for (int64_t c = 0; c < channels; c++)
                    NAME(blend)(values + c, image + c * element, bytes, &strip, &source, t, 1, channels, pixels);
            if (noise.deviation != 0)
                NAME(add_noise)(values, count, &noise, index[which] * blocks, place);
            if (bytes)
                NAME(to_bytes)((uint8_t *)out, values, count);
            else
                memcpy(out, values, (size_t)count * sizeof(real));
        }
    }
}

TASK_OF(affine) {
    NAME(resample)(a, n, begin, end, false);
    return 0;
}

TASK_OF(affine_bytes) {
    NAME(resample)(a, n, begin, end, true);
    return 0;
}
