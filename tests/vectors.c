/* Replay a file of test vectors, which vectors.py records: calls of kernels and ops, with the contents of their arrays
 * before and after. Built from the same sources as the library, for any processor. Every table that this machine can
 * run must compute the recorded bits; all NaNs count as equal. */
#include "fastopt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KERNEL_CALL, OP_CALL, SUM_OF_SQUARES };
enum { MAX_VALUES = 32 }; /* scalars, or arrays, of a call */

struct call {
    int64_t kind, index, real, count, chunk, scalars, arrays;
    double total;
};

struct array {
    int64_t bytes, item; /* -1 bytes: NULL; an item of 4 or 8 bytes is a float, or a double */
    const char *before, *after;
    void *now;
};

static int failures;

static int same(const char *got, const char *wanted, int64_t bytes, int64_t item) {
    for (int64_t i = 0; i < bytes; i += item) {
        float f, g;
        double d, e;
        if (memcmp(got + i, wanted + i, (size_t)item) == 0)
            continue;
        if (item == sizeof f && (memcpy(&f, got + i, sizeof f), memcpy(&g, wanted + i, sizeof g), isnan(f) && isnan(g)))
            continue;
        if (item == sizeof d && (memcpy(&d, got + i, sizeof d), memcpy(&e, wanted + i, sizeof e), isnan(d) && isnan(e)))
            continue;
        return 0;
    }
    return 1;
}

static void run_kernel(const struct fastopt_table *table, const struct call *call, const char *scalars, void **now) {
    struct fastopt_hyperparameters h;
    double wide[MAX_VALUES] = {0};
    float narrow[MAX_VALUES];
    int64_t step;
    memcpy(&step, scalars, sizeof step);
    memcpy(&h, scalars + sizeof step, sizeof h);
    table->coefficients[call->index](&h, step, wide);
    for (int i = 0; i < MAX_VALUES; i++)
        narrow[i] = (float)wide[i];
    const void *coefficients = call->real == FASTOPT_F32 ? (const void *)narrow : wide;
    table->kernels[call->real][call->index](now, coefficients, 0, call->count);
}

static double run_op(const struct fastopt_table *table, const struct call *call, const char *scalars, void **now) {
    union fastopt_argument arguments[FASTOPT_MAX_ARGUMENTS];
    const struct fastopt_argument_info *info = fastopt_op_info[call->index].arguments;
    double total = 0;
    for (int i = 0; info[i].name; i++)
        if (info[i].kind <= FASTOPT_INOUT)
            arguments[i].array = *now++;
        else {
            memcpy(&arguments[i], scalars, sizeof arguments[i]);
            scalars += sizeof arguments[i];
        }
    for (int64_t begin = 0; begin < call->count; begin += call->chunk) {
        const int64_t end = begin + call->chunk < call->count ? begin + call->chunk : call->count;
        total += table->ops[call->real][call->index](arguments, begin, end);
    }
    return total;
}

static double run(const struct fastopt_table *table, const struct call *call, const char *scalars, void **now) {
    double total = 0;
    const uint64_t before = fp_env_set();
    if (call->kind == KERNEL_CALL)
        run_kernel(table, call, scalars, now);
    else if (call->kind == OP_CALL)
        total = run_op(table, call, scalars, now);
    else
        total = table->sum_squares[call->real](now[0], 0, call->count);
    fp_env_restore(before);
    return total;
}

static void report(const struct fastopt_table *table, const struct call *call, const char *part, int64_t i) {
    const char *name = call->kind == KERNEL_CALL ? fastopt_kernel_info[call->index].name
                       : call->kind == OP_CALL ? fastopt_op_info[call->index].name
                                               : "sum of squares";
    printf("%s of float%d on %s: %s %d differs\n", name, call->real == FASTOPT_F32 ? 32 : 64, table->isa, part, (int)i);
    failures++;
}

/* Replay the call at `at`, and return the address of the next one. */
static const char *replay(const struct fastopt_table *table, const char *at) {
    struct call call;
    struct array arrays[MAX_VALUES];
    void *now[MAX_VALUES];
    memcpy(&call, at, sizeof call);
    at += sizeof call;
    const char *scalars = at;
    at += call.scalars * (int64_t)sizeof(union fastopt_argument);
    for (int64_t i = 0; i < call.arrays; i++) {
        struct array *array = &arrays[i];
        memcpy(array, at, 2 * sizeof(int64_t));
        at += 2 * sizeof(int64_t);
        now[i] = NULL;
        if (array->bytes < 0)
            continue;
        const int64_t padded = (array->bytes + 7) / 8 * 8;
        array->before = at;
        array->after = at + padded;
        at += 2 * padded;
        now[i] = array->now = malloc((size_t)array->bytes); /* exactly, so that tools see an access one byte too far */
        memcpy(array->now, array->before, (size_t)array->bytes);
    }
    const double total = run(table, &call, scalars, now);
    if (!same((const char *)&total, (const char *)&call.total, sizeof total, sizeof total))
        report(table, &call, "sum", 0);
    for (int64_t i = 0; i < call.arrays; i++) {
        if (arrays[i].bytes >= 0 && !same(arrays[i].now, arrays[i].after, arrays[i].bytes, arrays[i].item))
            report(table, &call, "array", i);
        free(now[i]);
    }
    return at;
}

int main(int count, char **arguments) {
    FILE *file = count == 2 ? fopen(arguments[1], "rb") : NULL;
    if (!file || fseek(file, 0, SEEK_END))
        return fprintf(stderr, "usage: vectors FILE\n"), 2;
    const long size = ftell(file);
    char *vectors = malloc((size_t)size);
    rewind(file);
    if (fread(vectors, 1, (size_t)size, file) != (size_t)size)
        return fprintf(stderr, "can't read %s\n", arguments[1]), 2;
    fclose(file);
    const struct fastopt_table *table;
    for (int i = 0; (table = kernel_table(i)); i++) {
        int calls = 0;
        for (const char *at = vectors; at < vectors + size; calls++)
            at = replay(table, at);
        printf("%s: %d calls\n", table->isa, calls);
    }
    free(vectors);
    return failures ? 1 : 0;
}
