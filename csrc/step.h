/* A step: the chunks of all tensors of all groups, and the stages that run on a chunk while it is in cache.
 *
 * Every stage (rule, weight average, zeroing the gradient) runs on a chunk before the next chunk starts, so each
 * operand is read from memory once. A model with 161 small tensors is one parallel loop, not 161.
 *
 * The functions call the loop and the kernels through pointers in fastopt_step, so this file depends on neither. */
#ifndef FASTOPT_STEP_H
#define FASTOPT_STEP_H

#include "fastopt.h"
#include "pool.h"

#include <stdbool.h>

enum {
    FASTOPT_GRAD = 1,  /* the operands of every rule begin with param, grad */
    FASTOPT_SCALE = 0, /* and its coefficients with scale */
    FASTOPT_MAX_OPERANDS = 16,
    FASTOPT_MAX_STAGES = 4,
    FASTOPT_MAX_COEFFICIENTS = 32,
};

struct fastopt_stage {
    int kernel, first_operand, first_coefficient;
};

/* Members shared by the chunks of a parameter group that have taken part in as many steps. */
struct fastopt_group {
    struct fastopt_stage stages[FASTOPT_MAX_STAGES];
    int stage_count, coefficient_count;
    double f64[FASTOPT_MAX_COEFFICIENTS]; /* the coefficients of all stages, in order */
    float f32[FASTOPT_MAX_COEFFICIENTS];
};

struct fastopt_tensor {
    int64_t size;
    int real;
    void *operands[FASTOPT_MAX_OPERANDS]; /* of all stages, in order */
    void *grad_sum;                       /* the sum of accumulated gradients, or NULL */
};

struct fastopt_chunk {
    const struct fastopt_tensor *tensor;
    const struct fastopt_group *group;
    int64_t begin, end;
};

struct fastopt_step {
    const struct fastopt_table *table;
    fastopt_parallel_for *parallel_for;
    int threads;
    int64_t spin; /* nanoseconds; see pool.h */
    const struct fastopt_chunk *chunks;
    int64_t chunk_count;
    double *chunk_sums; /* memory for a sum per chunk */
};

/* Compute the coefficients of all stages of a group in a step, counted from 1, and round them to float.
 * Return the index of the first one that is infinite, with has_f32 also as a float, or -1. */
int fastopt_set_coefficients(struct fastopt_group *group, const struct fastopt_table *table,
                             const struct fastopt_hyperparameters *h, int64_t step, bool has_f32);

/* Run all stages on all chunks. */
void fastopt_run_stages(const struct fastopt_step *step);

/* Return the sum of the squares of all gradients: the sums of the chunks, added in the order of the chunks. */
double fastopt_sum_squares(const struct fastopt_step *step);

/* Add the gradients to the tensors' grad_sum (the first ones are copied there); zero them afterwards if asked to. */
void fastopt_accumulate(const struct fastopt_step *step, bool first, bool zero_grads);

#endif
