#include "step.h"

#include <math.h>
#include <string.h>

static int64_t item_size(const struct fastopt_tensor *tensor) {
    return tensor->real == FASTOPT_F64 ? sizeof(double) : sizeof(float);
}

int fastopt_set_coefficients(struct fastopt_group *group, const struct fastopt_table *table,
                             const struct fastopt_hyperparameters *h, int64_t step, bool has_f32) {
    for (int s = 0; s < group->stage_count; s++)
        table->coefficients[group->stages[s].kernel](h, step, &group->f64[group->stages[s].first_coefficient]);
    for (int i = 0; i < group->coefficient_count; i++) {
        group->f32[i] = (float)group->f64[i];
        if (isinf(group->f64[i]) || (has_f32 && isinf(group->f32[i])))
            return i;
    }
    return -1;
}

static void run_stages_on_chunk(const void *context, int64_t i) {
    const struct fastopt_step *step = context;
    const struct fastopt_chunk *chunk = &step->chunks[i];
    const struct fastopt_tensor *tensor = chunk->tensor;
    const struct fastopt_group *group = chunk->group;
    for (int s = 0; s < group->stage_count; s++) {
        const struct fastopt_stage *stage = &group->stages[s];
        const void *coefficients = tensor->real == FASTOPT_F32 ? (const void *)&group->f32[stage->first_coefficient]
                                                               : (const void *)&group->f64[stage->first_coefficient];
        step->table->kernels[tensor->real][stage->kernel](&tensor->operands[stage->first_operand], coefficients,
                                                          chunk->begin, chunk->end);
    }
}

static void sum_squares_of_chunk(const void *context, int64_t i) {
    const struct fastopt_step *step = context;
    const struct fastopt_chunk *chunk = &step->chunks[i];
    step->chunk_sums[i] = step->table->sum_squares[chunk->tensor->real](chunk->tensor->operands[FASTOPT_GRAD],
                                                                        chunk->begin, chunk->end);
}

struct accumulation {
    const struct fastopt_step *step;
    bool first, zero_grads;
};

static void accumulate_chunk(const void *context, int64_t i) {
    const struct accumulation *accumulation = context;
    const struct fastopt_chunk *chunk = &accumulation->step->chunks[i];
    const struct fastopt_tensor *tensor = chunk->tensor;
    const int64_t offset = chunk->begin * item_size(tensor);
    const size_t bytes = (size_t)((chunk->end - chunk->begin) * item_size(tensor));
    char *grad = (char *)tensor->operands[FASTOPT_GRAD] + offset;
    if (accumulation->first)
        memcpy((char *)tensor->grad_sum + offset, grad, bytes);
    else {
        const union fastopt_argument x_and_y[] = {{tensor->grad_sum}, {tensor->operands[FASTOPT_GRAD]}};
        accumulation->step->table->ops[tensor->real][FASTOPT_OP_add](x_and_y, chunk->begin, chunk->end);
    }
    if (accumulation->zero_grads)
        memset(grad, 0, bytes);
}

struct chunk_loop {
    fastopt_body *body;
    const void *context;
};

static void call_on_worker(const void *context, int64_t i) {
    const struct chunk_loop *loop = context;
    const uint64_t before = fp_env_set();
    loop->body(loop->context, i);
    fp_env_restore(before);
}

/* The caller has set the floating-point environment of its own thread; to set it for each chunk takes 3 ns. */
static void for_each_chunk(const struct fastopt_step *step, fastopt_body *body, const void *context) {
    const struct chunk_loop loop = {body, context};
    if (step->threads > 1)
        step->parallel_for(call_on_worker, &loop, step->chunk_count, step->threads, step->spin);
    else
        for (int64_t i = 0; i < step->chunk_count; i++)
            body(context, i);
}

void fastopt_run_stages(const struct fastopt_step *step) { for_each_chunk(step, run_stages_on_chunk, step); }

double fastopt_sum_squares(const struct fastopt_step *step) {
    double total = 0;
    for_each_chunk(step, sum_squares_of_chunk, step);
    for (int64_t i = 0; i < step->chunk_count; i++)
        total += step->chunk_sums[i];
    return total;
}

void fastopt_accumulate(const struct fastopt_step *step, bool first, bool zero_grads) {
    const struct accumulation accumulation = {step, first, zero_grads};
    for_each_chunk(step, accumulate_chunk, &accumulation);
}
