/* Replays a file of test vectors, which vectors.py records: calls of kernels and tasks, with what their arrays held
 * before and what behind. Built from the same sources as the library, for whatever processor. Every table that this
 * machine can run must give the recorded bits, where any NaN is a NaN. */
#include "fastopt.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KERNEL_CALL, TASK_CALL, SUM_OF_SQUARES };
enum { MOST = 32 }; /* numbers, or arrays, of a call */

struct call {
    int64_t kind, row, real, count, grain, numbers, arrays;
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

static void run_kernel(const struct fastopt_table *table, const struct call *call, const double *numbers, void **now) {
    float narrow[MOST];
    for (int64_t i = 0; i < call->numbers; i++)
        narrow[i] = (float)numbers[i];
    const void *coefficients = call->real == FASTOPT_F32 ? (const void *)narrow : numbers;
    table->kernels[call->real][call->row](now, coefficients, 0, call->count);
}

static double run_task(const struct fastopt_table *table, const struct call *call, const double *numbers, void **now) {
    double total = 0;
    for (int64_t begin = 0; begin < call->count; begin += call->grain) {
        const int64_t end = begin + call->grain < call->count ? begin + call->grain : call->count;
        total += table->tasks[call->real][call->row](now, numbers, begin, end);
    }
    return total;
}

static double run(const struct fastopt_table *table, const struct call *call, const double *numbers, void **now) {
    double total = 0;
    const uint64_t before = fastopt_enter();
    if (call->kind == KERNEL_CALL)
        run_kernel(table, call, numbers, now);
    else if (call->kind == TASK_CALL)
        total = run_task(table, call, numbers, now);
    else
        total = table->sum_squares[call->real](now[0], 0, call->count);
    fastopt_leave(before);
    return total;
}

static void complain(const struct fastopt_table *table, const struct call *call, const char *what, int64_t i) {
    const char *name = call->kind == KERNEL_CALL ? fastopt_kernel_info[call->row].name
                       : call->kind == TASK_CALL ? fastopt_task_info[call->row].name
                                                 : "sum of squares";
    printf("%s of float%d on %s: %s %d differs\n", name, call->real == FASTOPT_F32 ? 32 : 64, table->isa, what, (int)i);
    failures++;
}

/* Replay the call at `at`, and give where the next one is. */
static const char *replay(const struct fastopt_table *table, const char *at) {
    struct call call;
    struct array arrays[MOST];
    void *now[MOST];
    memcpy(&call, at, sizeof call);
    at += sizeof call;
    const double *numbers = (const double *)at;
    at += call.numbers * (int64_t)sizeof(double);
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
        now[i] = array->now = malloc((size_t)array->bytes); /* of that size, so that tools see one byte too far */
        memcpy(array->now, array->before, (size_t)array->bytes);
    }
    const double total = run(table, &call, numbers, now);
    if (!same((const char *)&total, (const char *)&call.total, sizeof total, sizeof total))
        complain(table, &call, "sum", 0);
    for (int64_t i = 0; i < call.arrays; i++) {
        if (arrays[i].bytes >= 0 && !same(arrays[i].now, arrays[i].after, arrays[i].bytes, arrays[i].item))
            complain(table, &call, "array", i);
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
    for (int i = 0; (table = fastopt_pick_table(i)); i++) {
        int calls = 0;
        for (const char *at = vectors; at < vectors + size; calls++)
            at = replay(table, at);
        printf("%s: %d calls\n", table->isa, calls);
    }
    free(vectors);
    return failures ? 1 : 0;
}
