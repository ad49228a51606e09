/* The primitive of scan.c: tiles in registers. */
#pragma once
#include "vectors.h"

#define TILE 4 /* vectors in a row of a tile */
#define CHUNK 16 /* w^(CHUNK / 2) stays far inside float */
#define MIDDLE ((CHUNK - 1) * 0.5)
#define SEGMENT 4 /* chunks between two states that the gradient of the decay needs */

enum { BY_ROW, BY_LANE }; /* where in S the key's channel is, and so the decay */

/* ROWS rows and `vectors` vectors of S; `step`: elements from a token to the next. */
INLINE void tile(const REAL *a, const REAL *b, const REAL *c, REAL *out, REAL *S, const REAL *decay,
                 const int where, const int vectors, int W, int64_t step, int n) {
    vec s[ROWS][TILE];
    for (int d = 0; d < ROWS; d++)
        for (int e = 0; e < vectors; e++)
            s[d][e] = CV(S + d * W + e * LANES) *
                      (where == BY_ROW ? broadcast(decay[d]) : CV(decay + e * LANES));
    for (int i = 0; i < n; i++) {
        vec wide_a[ROWS], wide_b[ROWS];
        for (int d = 0; d < ROWS; d++) wide_a[d] = broadcast(a[d]), wide_b[d] = broadcast(b[d]);
        for (int e = 0; e < vectors; e++) {
            vec sum = CV(out + e * LANES);
            const vec x = CV(c + e * LANES);
            for (int d = 0; d < ROWS; d++) sum += wide_a[d] * s[d][e];
            V(out + e * LANES) = sum;
            for (int d = 0; d < ROWS; d++) s[d][e] += wide_b[d] * x;
        }
        a += step, b += step, c += step, out += step;
    }
    for (int d = 0; d < ROWS; d++)
        for (int e = 0; e < vectors; e++) V(S + d * W + e * LANES) = s[d][e];
}

/* Scratch of one thread. Rows of a chunk: a, b, c, g (gradient), o (result); states; tables of the
 * decay: w^(i-m), w^(m-1-i), w^(m-i), w^(i-1-m), and w^CHUNK between chunks. */
typedef struct {
    int D, W;
    int64_t L, chunks, row; /* row: elements between two tokens of a dense tensor */
    REAL *up, *up_key, *down, *down_key, *between, *own; /* own: u w */
    REAL *a, *b, *c, *g, *o, *states, *S, *G, *partial, *sums[3]; /* sums: L rows, if NARROW */
    double *dlog, *dbonus;
    REAL vg[CHUNK]; /* value times gradient of each token */
    const char *ahead[6 * CHUNK]; /* rows of the tensors that the next chunk touches */
    int num_ahead;
    void *memory;
} work;

/* The primitive for n rows: S is decayed, read and added to. Rows of the next chunk are fetched
 * meanwhile: they lie in pieces too far apart for the processor to guess. */
INLINE void scan(work *x, const REAL *a, const REAL *b, const REAL *c, REAL *out, REAL *S,
                 const int where, int n, int down) {
    const int W = x->W, share = (x->num_ahead * ROWS + W - 1) / W;
    int64_t step = W;
    if (down) {
        const int64_t last = (int64_t)(n - 1) * W;
        a += last, b += last, c += last, out += last, step = -W;
    }
    for (int e = 0; e < W; e += TILE * LANES)
        for (int d = 0; d < W; d += ROWS) {
            const REAL *decay = x->between + (where == BY_ROW ? d : e);
            for (int i = 0; i < share && x->num_ahead; i++) {
                const char *row = x->ahead[--x->num_ahead];
                for (int64_t at = 0; at < x->D * (int64_t)sizeof(stored); at += 64)
                    __builtin_prefetch(row + at, 0, 2);
            }
#define CALL(vectors) \
    tile(a + d, b + d, c + e, out + e, S + d * W + e, decay, where, vectors, W, step, n)
            switch ((W - e) / LANES) {
            case 1: CALL(1); break;
            case 2: CALL(2); break;
            case 3: CALL(3); break;
            default: CALL(TILE);
            }
#undef CALL
        }
}

static __attribute__((noinline)) void scan_by_row(work *x, const REAL *a, const REAL *b,
                                                  const REAL *c, REAL *S, int n, int down) {
    scan(x, a, b, c, x->o, S, BY_ROW, n, down);
}

static __attribute__((noinline)) void scan_by_lane(work *x, const REAL *a, const REAL *b,
                                                   const REAL *c, REAL *S, int n, int down) {
    scan(x, a, b, c, x->o, S, BY_LANE, n, down);
}
