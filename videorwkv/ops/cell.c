/* The cell of a layer over all frames of a clip, and its gradients (equations: cell.py).
 *
 * T frames, rows of `width` channels: the tokens of all clips. A block of rows goes through all
 * frames at once, so that its memories stay in a cache; the way back computes them again from the
 * gates, which costs less than to have kept them.
 *
 * build.py compiles this with REAL and BFLOAT16 as it does scan.c. The memory, h and their
 * gradients are REAL; what the gates are made of, and its gradients, are `stored`.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"
#include "vectors.h"

enum { GATED, PAPER, LINEAR };

/* Dense: [T, rows, width]; memory [rows, width]; rate [width]; drate [blocks, width]. Null: there
 * is none. `memories` and `dmemories` have all frames or, with `every` 0, the last one. */
typedef struct {
    const stored *branch, *gate, *aside;
    const REAL *rate, *memory, *dout, *dmemories;
    REAL *out, *memories, *dmemory, *drate;
    stored *dbranch, *dgate, *daside;
    int64_t frames, rows, width, kind, every, block, threads;
} problem;

typedef __typeof__((vec){0} == (vec){0}) ints;

#define WIDE (sizeof(REAL) == 8)
#define MANTISSA (WIDE ? 52 : 23)

INLINE vec pick(ints mask, vec yes, vec no) {
    return (vec)((mask & (ints)yes) | (~mask & (ints)no));
}

/* Comparisons so that a NaN stays one. */
INLINE vec at_most(vec x, REAL limit) { return pick(x > limit, (vec){0} + limit, x); }
INLINE vec at_least(vec x, REAL limit) { return pick(x < limit, (vec){0} + limit, x); }

/* exp(x) = scale (1 + rest), scale a power of two, |x| below 87 (708 in double). */
INLINE vec exp_parts(vec x, vec *scale) {
    /* The sum's last bits are those of the rounded quotient. */
    const REAL magic = WIDE ? (REAL)6755399441055744.0 : (REAL)12582912.0;
    const REAL ln2 = WIDE ? (REAL)6.93147180369123816490e-01 : (REAL)0.693359375;
    const REAL ln2_rest = WIDE ? (REAL)1.90821492927058770002e-10 : (REAL)-2.12194440e-4;
    const vec shifted = x * (REAL)1.44269504088896340736 + magic;
    const vec n = shifted - magic;
    const vec r = (x - n * ln2) - n * ln2_rest;
    /* Taylor: what is left out is below the last bit for |r| <= ln(2) / 2. */
    static const REAL one_over[] = {
        1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880,
        1.0 / 40320, 1.0 / 5040, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 1.0 / 2, 1};
    const int first = WIDE ? 0 : 6, count = sizeof(one_over) / sizeof(*one_over);
    vec sum = (vec){0} + one_over[first];
#pragma GCC unroll 16
    for (int i = first + 1; i < count; i++) sum = sum * r + one_over[i];
    *scale = (vec)(((ints)shifted << MANTISSA) + (ints)((vec){0} + (REAL)1));
    return sum * r;
}

INLINE vec sigmoid(vec x) {
    const REAL most = WIDE ? (REAL)708 : (REAL)87;
    vec scale;
    const vec rest = exp_parts(at_least(at_most(-x, most), -most), &scale);
    return 1 / (1 + (scale * rest + scale));
}

INLINE vec tangent(vec x) {
    const ints sign = (ints)(-(vec){0}) & (ints)x;
    vec scale;
    const vec twice = 2 * at_most((vec)((ints)x ^ sign), WIDE ? (REAL)20 : (REAL)10);
    const vec rest = exp_parts(twice, &scale);
    const vec below = scale * rest + (scale - 1);
    return (vec)((ints)(below / (below + 2)) | sign);
}

INLINE vec exponential(vec x) {
    const REAL most = WIDE ? (REAL)708 : (REAL)87;
    vec scale;
    const vec rest = exp_parts(at_least(at_most(x, most), -most), &scale);
    return scale * rest + scale;
}

INLINE vec get(const stored *x, int n) { return n < LANES ? load_rest(x, n) : load_vec(x); }

INLINE void put(stored *x, vec value, int n) {
    if (n < LANES) store_rest(x, value, n);
    else store_vec(x, value);
}

INLINE vec get_real(const REAL *x, int n) {
    vec value = {0};
    if (n < LANES) memcpy(&value, x, sizeof(REAL) * (size_t)n);
    else value = *(const loose *)x;
    return value;
}

INLINE void put_real(REAL *x, vec value, int n) {
    if (n < LANES) memcpy(x, &value, sizeof(REAL) * (size_t)n);
    else *(loose *)x = value;
}

/* tanh(x) and sigmoid(x) from one exponential and one division. */
INLINE void tangent_and_sigmoid(vec x, vec *tanh_x, vec *open) {
    const ints sign = (ints)(-(vec){0}) & (ints)x;
    vec scale;
    const vec size = at_most((vec)((ints)x ^ sign), WIDE ? (REAL)350 : (REAL)43);
    const vec rest = exp_parts(-size, &scale);
    const vec less = scale * rest + (scale - 1), e = 1 + less; /* exp(-|x|) - 1, exactly near 0 */
    const vec one = 1 + e, two = 1 + e * e, both = 1 / (one * two);
    *tanh_x = (vec)((ints)(-less * (2 + less) * one * both) | sign);
    *open = pick(x < 0, e, (vec){0} + 1) * two * both;
}

/* What an element of a frame is made of. `own`: how much would be kept if nothing were held. */
typedef struct {
    vec new, open, own, held;
} gates;

INLINE gates gates_at(const problem *p, const int kind, int64_t at, int d, int n) {
    gates g = {{0}, {0}, {0}, {0}};
    tangent_and_sigmoid(get(p->branch + at, n), &g.new, &g.open);
    if (kind != GATED) {
        g.own = get(p->gate + at, n);
        if (kind == LINEAR) g.new = get(p->aside + at, n);
        return g;
    }
    vec logit = p->gate ? get(p->gate + at, n) : (vec){0};
    if (p->rate) logit += get_real(p->rate + d, n);
    g.own = sigmoid(logit);
    if (p->aside) g.held = exponential(get(p->aside + at, n));
    return g;
}

/* What a gated cell writes in place of the rest: exactly 0 where all is held. */
INLINE vec written(const gates *g) { return (1 - g->own) * (1 - g->held); }

INLINE vec updated(const gates *g, const int kind, vec memory) {
    if (kind == GATED) return memory + written(g) * (g->new - memory);
    if (kind == PAPER) return g->own * (g->new + memory) + memory;
    return g->new + g->own * memory;
}

/* Scratch of a block: the memory before a frame, on the way back before every one, and gates. */
enum { MEMORY, NEW, OPEN, OWN, HELD, KEPT_ARRAYS };

static int64_t padded(const problem *p) { return (p->width + LANES - 1) / LANES * LANES; }

INLINE void load_memory(const problem *p, REAL *c, int64_t first, int64_t last) {
    const int64_t C = p->width, W = padded(p);
    for (int64_t row = first; row < last; row++)
        for (int64_t d = 0; d < C; d += LANES)
            V(c + (row - first) * W + d) = get_real(p->memory + row * C + d, (int)(C - d));
}

/* The gates of rows `first` to `last` at frame t, and the memory after it, `step` behind the one
 * before. A pass of its own: what follows waits for it, and the processor looks ahead less far. */
INLINE void frame(const problem *p, const int kind, const int back, int64_t t, REAL *scratch,
                  int64_t step, int64_t first, int64_t last) {
    const int64_t C = p->width, W = padded(p), size = p->rows * C, block = p->block * W;
    for (int64_t row = first; row < last; row++)
        for (int64_t d = 0; d < C; d += LANES) {
            REAL *to = scratch + (row - first) * W + d;
            const gates g = gates_at(p, kind, t * size + row * C + d, (int)d, (int)(C - d));
            V(to + step) = updated(&g, kind, CV(to));
            V(to + OPEN * block) = g.open;
            if (!back) continue;
            V(to + NEW * block) = g.new, V(to + OWN * block) = g.own, V(to + HELD * block) = g.held;
        }
}

INLINE void forward(const problem *p, const int kind, REAL *scratch, int64_t first, int64_t last) {
    const int64_t C = p->width, W = padded(p), size = p->rows * C, block = p->block * W;
    load_memory(p, scratch, first, last);
    for (int64_t t = 0; t < p->frames; t++) {
        frame(p, kind, 0, t, scratch, 0, first, last);
        const int64_t to = p->every ? t * size : 0;
        const int asked = p->every || t == p->frames - 1;
        for (int64_t row = first; row < last; row++)
            for (int64_t d = 0; d < C; d += LANES) {
                const int64_t at = row * C + d;
                const int n = (int)(C - d);
                const REAL *from = scratch + (row - first) * W + d;
                put_real(p->out + t * size + at, tangent(CV(from)) * CV(from + OPEN * block), n);
                if (asked) put_real(p->memories + to + at, CV(from), n);
            }
    }
}

INLINE void forward_again(const problem *p, const int kind, REAL *scratch, int64_t first,
                          int64_t last) {
    const int64_t step = p->block * padded(p) * KEPT_ARRAYS;
    load_memory(p, scratch, first, last);
    for (int64_t t = 0; t < p->frames; t++, scratch += step)
        frame(p, kind, 1, t, scratch, step, first, last);
}

/* `carried` [rows of a block, W]: gradient of the memory that a frame hands on; drate [W]. */
INLINE void backward(const problem *p, const int kind, const REAL *scratch, REAL *carried,
                     REAL *drate, int64_t first, int64_t last) {
    const int64_t C = p->width, W = padded(p), size = p->rows * C, block = p->block * W;
    memset(carried, 0, sizeof(REAL) * (size_t)block);
    memset(drate, 0, sizeof(REAL) * (size_t)W);
    for (int64_t t = p->frames - 1; t >= 0; t--)
        for (int64_t row = first; row < last; row++)
            for (int64_t d = 0; d < C; d += LANES) {
                const int64_t at = t * size + row * C + d, in = (row - first) * W + d;
                const int n = (int)(C - d);
                const REAL *kept = scratch + t * block * KEPT_ARRAYS + in;
                const gates g = {CV(kept + NEW * block), CV(kept + OPEN * block),
                                 CV(kept + OWN * block), CV(kept + HELD * block)};
                const vec before = CV(kept), after = CV(kept + KEPT_ARRAYS * block);
                vec grad = CV(carried + in), dbranch = {0}, dkept, dnew;
                if (p->dmemories && p->every) grad += get_real(p->dmemories + at, n);
                else if (p->dmemories && t == p->frames - 1)
                    grad += get_real(p->dmemories + row * C + d, n);
                if (p->dout) {
                    const vec dout = get_real(p->dout + at, n) * g.open, shown = tangent(after);
                    grad += dout * (1 - shown * shown);
                    dbranch = dout * shown * (1 - g.open);
                }
                if (kind == GATED) {
                    const vec write = written(&g);
                    dkept = grad * (before - g.new), dnew = grad * write;
                    if (p->aside) put(p->daside + at, dkept * (1 - g.own) * g.held, n);
                    dkept *= (1 - g.held) * g.own * (1 - g.own);
                    V(drate + d) += dkept;
                    V(carried + in) = grad - dnew;
                } else if (kind == PAPER) {
                    dkept = grad * (g.new + before), dnew = grad * g.own;
                    V(carried + in) = dnew + grad;
                } else {
                    dkept = grad * before, dnew = (vec){0};
                    put(p->daside + at, grad, n);
                    V(carried + in) = grad * g.own;
                }
                if (p->dgate) put(p->dgate + at, dkept, n);
                put(p->dbranch + at, dbranch + dnew * (1 - g.new * g.new), n);
            }
    for (int64_t row = first; row < last; row++)
        for (int64_t d = 0; d < C; d += LANES)
            put_real(p->dmemory + row * C + d, CV(carried + (row - first) * W + d), (int)(C - d));
    if (p->drate)
        for (int64_t d = 0; d < C; d += LANES)
            put_real(p->drate + first / p->block * C + d, CV(drate + d), (int)(C - d));
}

static __attribute__((noinline)) void run_block(const problem *p, REAL *scratch, REAL *carried,
                                                REAL *drate, int64_t first, int64_t last) {
#define OF_KIND(kind) \
    case kind: \
        if (!p->dbranch) forward(p, kind, scratch, first, last); \
        else { \
            forward_again(p, kind, scratch, first, last); \
            backward(p, kind, scratch, carried, drate, first, last); \
        } \
        break;
    switch (p->kind) { OF_KIND(GATED) OF_KIND(PAPER) OF_KIND(LINEAR) }
#undef OF_KIND
}

static int some_blocks(const void *given, int64_t first, int64_t last) {
    const problem *p = given;
    const int64_t W = padded(p), block = p->block * W;
    const int64_t kept = block * (p->dbranch ? p->frames * KEPT_ARRAYS + 1 : KEPT_ARRAYS);
    char *memory = malloc(sizeof(REAL) * (size_t)(kept + block + W) + BYTES);
    if (!memory) return 0;
    REAL *at = (REAL *)(((uintptr_t)memory + BYTES - 1) / BYTES * BYTES);
    for (int64_t i = first; i < last; i++) {
        const int64_t end = (i + 1) * p->block;
        run_block(p, at, at + kept, at + kept + block, i * p->block, end < p->rows ? end : p->rows);
    }
    free(memory);
    return 1;
}

/* Returns 0 without memory. */
int run_cell(const problem *p) {
    return in_threads(some_blocks, p, (p->rows + p->block - 1) / p->block, p->threads);
}
