/* The scan and its gradients, token after token (equations: ../README.md).
 *
 * L tokens, D head width, W head width padded to whole vectors, CHUNK tokens of a chunk.
 *
 * All of it is one primitive, a causal product without decay:
 *     out_i += a_i S,   S += b_i^T c_i      over the tokens of a chunk, upwards or downwards.
 * The decay is in the operands: with m the middle of a chunk
 *     w^(i-1-j) = w^(i-m) * w^(m-1-j),      and between chunks S is multiplied by w^CHUNK.
 * Forward: a = r w^(i-m), b = k w^(m-1-j), c = v. The gradients of r, k and v are the same
 * primitive with other operands. A tile of S stays in registers for a chunk: the products bound
 * the time.
 *
 * build.py compiles this with REAL, float or double, for all arithmetic; with BFLOAT16 the tensors
 * are bfloat16.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "scan.h"
#include "threads.h"

/* Strides in elements, for batch, token, head of r, k, v, grad; the other tensors are dense. */
typedef struct {
    const stored *r, *k, *v, *grad;
    const REAL *log_decay, *bonus;
    stored *out, *dr, *dk, *dv;
    REAL *dlog_decay, *dbonus; /* [B, H, D]: one sum for each scan */
    int64_t batch, length, heads, width, bidirectional, threads;
    int64_t strides[4][3];
} problem;

static int64_t lay_out(work *x, uintptr_t base, int backward) {
    const int64_t W = x->W, rows = CHUNK * W;
    int64_t at = 0;
#define TAKE(field, count) \
    x->field = (void *)(base + (uintptr_t)at), at += (int64_t)sizeof(*x->field) * (count)
    TAKE(up, rows), TAKE(up_key, rows), TAKE(down, rows), TAKE(down_key, rows);
    TAKE(between, W), TAKE(own, W), TAKE(partial, W), TAKE(dlog, W), TAKE(dbonus, W);
    TAKE(a, rows), TAKE(b, rows), TAKE(c, rows), TAKE(g, rows), TAKE(o, rows), TAKE(S, W * W);
    if (backward) TAKE(G, W * W), TAKE(states, (x->chunks / SEGMENT + 1) * W * W);
    for (int i = 0; NARROW && i < (backward ? 3 : 1); i++) TAKE(sums[i], x->L * W);
#undef TAKE
    return at;
}

static int make_work(work *x, const problem *p) {
    x->D = (int)p->width, x->L = p->length, x->row = p->heads * p->width;
    x->W = (x->D + LANES - 1) / LANES * LANES;
    x->chunks = (x->L + CHUNK - 1) / CHUNK;
    x->memory = malloc((size_t)lay_out(x, 0, p->grad != 0) + BYTES);
    if (!x->memory) return 0;
    lay_out(x, ((uintptr_t)x->memory + BYTES - 1) / BYTES * BYTES, p->grad != 0);
    return 1;
}

static void zero(REAL *x, int64_t count) { memset(x, 0, sizeof(REAL) * (size_t)count); }

static void make_tables(work *x, const REAL *log_decay, const REAL *bonus) {
    for (REAL *t = x->up; t < x->partial; t++) *t = 0; /* padded channels */
    for (int d = 0; d < x->D; d++) {
        const double w = exp((double)log_decay[d]), inverse = 1 / w;
        const double before = exp(-log_decay[d] * MIDDLE);
        double up = before, down = 1 / before; /* w^(i-m), w^(m-i): a few products from here */
        for (int at = d; at < CHUNK * x->W; at += x->W, up *= w, down *= inverse) {
            x->up[at] = (REAL)up, x->down_key[at] = (REAL)(up * inverse);
            x->down[at] = (REAL)down, x->up_key[at] = (REAL)(down * inverse);
        }
        x->between[d] = (REAL)(up / before);
        x->own[d] = (REAL)(bonus[d] * w);
    }
}

/* Rows of a tensor, padded with zeros, times `scale` if there is one. */
static void pack(const work *x, REAL *to, const stored *from, const int64_t *strides, int64_t batch,
                 int64_t head, int64_t token, const REAL *scale, int n) {
    const int D = x->D, W = x->W;
    const int64_t step = strides[1];
    from += batch * strides[0] + token * step + head * strides[2];
    for (int i = 0; i < n; i++, from += step)
        for (int d = 0; d < W; d += LANES, to += LANES) {
            vec row = d + LANES <= D ? load_vec(from + d) : load_rest(from + d, D - d);
            if (scale) row *= CV(scale), scale += LANES;
            V(to) = row;
        }
}

/* Adds a chunk's rows to a result; the first direction sets it, the last one stores it. */
static void add(const work *x, stored *result, int which, int64_t token, int n, int first,
                int last) {
    const int D = x->D, W = x->W;
    const int64_t step = x->row;
    const REAL *from = x->o;
    REAL *sum = NARROW ? x->sums[which] + token * W : 0;
    result += token * step;
    for (int i = 0; i < n; i++, result += step)
        for (int d = 0; d < W; d += LANES, from += LANES) {
            const int whole = d + LANES <= D;
            vec row = CV(from);
            if (!first && NARROW) row += CV(sum);
            if (!first && !NARROW)
                row += whole ? load_vec(result + d) : load_rest(result + d, D - d);
            if (NARROW && !last) V(sum) = row;
            else if (whole) store_vec(result + d, row);
            else store_rest(result + d, row, D - d);
            if (NARROW) sum += LANES;
        }
}

static int tokens_of(const work *x, int64_t chunk) {
    const int64_t left = x->L - chunk * CHUNK;
    return left < CHUNK ? (int)left : CHUNK;
}

static void look_ahead(work *x, const stored *rows, const int64_t *strides, int64_t batch,
                       int64_t head, int64_t chunk) {
    if (!rows || chunk < 0 || chunk >= x->chunks) return;
    rows += batch * strides[0] + chunk * CHUNK * strides[1] + head * strides[2];
    for (int i = tokens_of(x, chunk); i > 0; i--, rows += strides[1])
        x->ahead[x->num_ahead++] = (const char *)rows;
}

/* a, b, c, g = r, k, v, gradient of a chunk, with the decay of the direction in a and b. Asks for
 * those of the next chunk, `ahead` of this one, and for its rows of the results. */
static int pack_chunk(const problem *p, work *x, int64_t batch, int64_t head, int64_t chunk,
                      int down, int ahead, const stored *result, const stored *result2) {
    const int64_t dense[3] = {x->L * x->row, x->row, x->D}, at = chunk * CHUNK;
    const int64_t next = chunk + ahead;
    const int n = tokens_of(x, chunk);
    pack(x, x->a, p->r, p->strides[0], batch, head, at, down ? x->down : x->up, n);
    pack(x, x->b, p->k, p->strides[1], batch, head, at, down ? x->down_key : x->up_key, n);
    pack(x, x->c, p->v, p->strides[2], batch, head, at, 0, n);
    if (p->grad) pack(x, x->g, p->grad, p->strides[3], batch, head, at, 0, n);
    x->num_ahead = 0;
    look_ahead(x, p->r, p->strides[0], batch, head, next);
    look_ahead(x, p->k, p->strides[1], batch, head, next);
    look_ahead(x, p->v, p->strides[2], batch, head, next);
    look_ahead(x, p->grad, p->strides[3], batch, head, next);
    look_ahead(x, result, dense, batch, head, next);
    look_ahead(x, result2, dense, batch, head, next);
    return n;
}

INLINE REAL total(vec x) {
    REAL sum = 0;
    for (int d = 0; d < LANES; d++) sum += x[d];
    return sum;
}

/* o = what each token gives itself: r u k in the place of a sum over others; a b = r k / w. */
static void own_rows(work *x, const REAL *value, int n) {
    for (int i = 0; i < n; i++) {
        const int64_t at = (int64_t)i * x->W;
        vec sum = {0};
        for (int d = 0; d < x->W; d += LANES)
            sum += CV(x->a + at + d) * CV(x->b + at + d) * CV(x->own + d);
        const vec weight = broadcast(total(sum));
        for (int d = 0; d < x->W; d += LANES) V(x->o + at + d) = weight * CV(value + at + d);
    }
}

static void forward(const problem *p, work *x, int64_t batch, int64_t head) {
    stored *out = p->out + batch * x->L * x->row + head * x->D;
    for (int down = 0; down <= p->bidirectional; down++) {
        const int step = down ? -1 : 1;
        zero(x->S, (int64_t)x->W * x->W);
        for (int64_t q = 0; q < x->chunks; q++) {
            const int64_t chunk = down ? x->chunks - 1 - q : q;
            const int n = pack_chunk(p, x, batch, head, chunk, down, step, p->out, 0);
            if (down) zero(x->o, (int64_t)n * x->W);
            else own_rows(x, x->c, n);
            scan_by_row(x, x->a, x->b, x->c, x->S, n, down);
            add(x, out, 0, chunk * CHUNK, n, !down, down == p->bidirectional);
        }
    }
}

/* o, the gradient of `scaled` (a or b; `other` is the other), becomes that of r or k, and is added
 * to that of the decay. Steps of decay are counted from the middle of a segment's first chunk. */
static void unscale(work *x, const REAL *scaled, const REAL *other, const REAL *scale,
                    int64_t chunk, int is_key, int sign, int n) {
    const REAL before = (REAL)(sign * (chunk % SEGMENT * CHUNK - MIDDLE) - is_key);
    for (int d = 0; d < x->W; d += LANES) {
        vec sum = {0};
        REAL steps = before;
        for (int64_t at = d, i = 0; i < n; i++, at += x->W, steps += (REAL)sign) {
            vec grad = CV(x->o + at);
            sum += steps * CV(scaled + at) * grad;
            grad += x->vg[i] * CV(x->own + d) * CV(other + at);
            V(x->o + at) = grad * CV(scale + at);
        }
        for (int lane = 0; lane < LANES; lane++) x->dlog[d + lane] += (double)sum[lane];
    }
}

/* Whether a scan comes from another segment into this chunk. */
static int enters(int64_t chunk, int down) { return (chunk + down) % SEGMENT == 0; }

static REAL *state_of(const work *x, int64_t chunk) {
    return x->states + chunk / SEGMENT * x->W * x->W;
}

/* What the decay over a segment has from the state there and its gradient. */
static void add_between(work *x, const REAL *state, const REAL *grad) {
    for (int d = 0; d < x->W; d += LANES) {
        vec sum = {0};
        for (int64_t at = d; at < (int64_t)x->W * x->W; at += x->W)
            sum += CV(state + at) * CV(grad + at);
        sum *= SEGMENT * CHUNK * CV(x->between + d);
        for (int lane = 0; lane < LANES; lane++) x->dlog[d + lane] += (double)sum[lane];
    }
}

static void add_bonus(work *x, int n) {
    for (int d = 0; d < x->W; d += LANES) {
        vec sum = {0};
        for (int64_t at = d, i = 0; i < n; i++, at += x->W)
            sum += x->vg[i] * CV(x->a + at) * CV(x->b + at);
        for (int lane = 0; lane < LANES; lane++) x->dbonus[d + lane] += (double)sum[lane];
    }
}

static void values_times_gradients(work *x, int n) {
    for (int i = 0; i < n; i++) {
        vec sum = {0};
        for (int64_t at = (int64_t)i * x->W; at < (int64_t)(i + 1) * x->W; at += LANES)
            sum += CV(x->c + at) * CV(x->g + at);
        x->vg[i] = total(sum);
    }
}

/* One direction. S [v, k] goes along with the scan and gives dr; its gradient comes back, as G
 * [v, k] for dk and transposed, in S, for dv: adding up inside a vector would cost more. */
static void backward_scan(const problem *p, work *x, int64_t batch, int64_t head, int down) {
    const int W = x->W, first = !down, last = down == p->bidirectional;
    const int step = down ? -1 : 1;
    const int64_t to = batch * x->L * x->row + head * x->D, size = (int64_t)W * W;
    zero(x->S, size);
    for (int64_t q = 0; q < x->chunks; q++) {
        const int64_t chunk = down ? x->chunks - 1 - q : q;
        const int n = pack_chunk(p, x, batch, head, chunk, down, step, p->dr, 0);
        if (enters(chunk, down)) memcpy(state_of(x, chunk), x->S, sizeof(REAL) * (size_t)size);
        zero(x->o, (int64_t)n * W);
        scan_by_lane(x, x->g, x->c, x->b, x->S, n, down);
        if (first) values_times_gradients(x, n), add_bonus(x, n);
        else zero(x->vg, CHUNK);
        unscale(x, x->a, x->b, down ? x->down : x->up, chunk, 0, down ? -1 : 1, n);
        add(x, p->dr + to, 0, chunk * CHUNK, n, first, last);
    }
    zero(x->S, size), zero(x->G, size);
    for (int64_t q = x->chunks - 1; q >= 0; q--) {
        const int64_t chunk = down ? x->chunks - 1 - q : q;
        const int n = pack_chunk(p, x, batch, head, chunk, down, -step, p->dk, p->dv);
        zero(x->o, (int64_t)n * W);
        scan_by_lane(x, x->c, x->g, x->a, x->G, n, !down);
        if (enters(chunk, down)) add_between(x, state_of(x, chunk), x->G);
        if (first) values_times_gradients(x, n);
        else zero(x->vg, CHUNK);
        unscale(x, x->b, x->a, down ? x->down_key : x->up_key, chunk, 1, down ? 1 : -1, n);
        add(x, p->dk + to, 1, chunk * CHUNK, n, first, last);
        if (first) own_rows(x, x->g, n);
        else zero(x->o, (int64_t)n * W);
        scan_by_row(x, x->b, x->a, x->g, x->S, n, !down);
        add(x, p->dv + to, 2, chunk * CHUNK, n, first, last);
    }
}

static void backward(const problem *p, work *x, int64_t batch, int64_t head) {
    const int64_t to = (batch * p->heads + head) * x->D;
    memset(x->dlog, 0, sizeof(double) * (size_t)x->W);
    memset(x->dbonus, 0, sizeof(double) * (size_t)x->W);
    for (int down = 0; down <= p->bidirectional; down++) backward_scan(p, x, batch, head, down);
    for (int d = 0; d < x->D; d++) {
        p->dlog_decay[to + d] = (REAL)x->dlog[d];
        p->dbonus[to + d] = (REAL)(x->dbonus[d] * exp((double)p->log_decay[head * x->D + d]));
    }
}

/* Scans `first` to `last`, head after head, so that a head's tables are made once. */
static int some_scans(const void *given, int64_t first, int64_t last) {
    const problem *p = given;
    work x;
    if (!make_work(&x, p)) return 0;
    for (int64_t i = first; i < last; i++) {
        const int64_t head = i / p->batch;
        if (i == first || i % p->batch == 0)
            make_tables(&x, p->log_decay + head * x.D, p->bonus + head * x.D);
        (p->grad ? backward : forward)(p, &x, i % p->batch, head);
    }
    free(x.memory);
    return 1;
}

/* Returns 0 without memory. */
int run_scan(const problem *p) {
    return in_threads(some_scans, p, p->batch * p->heads, p->threads);
}
