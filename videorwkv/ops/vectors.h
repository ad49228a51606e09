/* Vectors of REAL, and how tensors are read and written; in a library of bfloat16 `stored` is. */
#pragma once
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define BYTES 64
#define ROWS 4
#elif defined(__AVX__)
#define BYTES 32
#define ROWS 2
#else
#define BYTES 16
#define ROWS 2
#endif
#define LANES ((int)(BYTES / sizeof(REAL)))
#define INLINE static inline __attribute__((always_inline))

typedef REAL vec __attribute__((vector_size(BYTES), may_alias));
typedef REAL loose __attribute__((vector_size(BYTES), aligned(sizeof(REAL)), may_alias));

#define V(x) (*(vec *)(x))
#define CV(x) (*(const vec *)(x))

#ifdef BFLOAT16
typedef uint16_t stored;
typedef uint16_t halves __attribute__((vector_size(BYTES / 2), aligned(2), may_alias));
typedef uint32_t words __attribute__((vector_size(BYTES)));
#define NARROW 1

INLINE vec load_vec(const stored *x) {
    return (vec)(__builtin_convertvector(*(const halves *)x, words) << 16);
}

INLINE void store_vec(stored *to, vec x) {
    const words bits = (words)x, nan = (words)(x != x);
    const words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16; /* ties to even */
    *(halves *)to = __builtin_convertvector((rounded & ~nan) | (nan & 0x7fc0), halves);
}
#else
typedef REAL stored;
#define NARROW 0

INLINE vec load_vec(const stored *x) { return *(const loose *)x; }

INLINE void store_vec(stored *to, vec x) { *(loose *)to = x; }
#endif

/* The last few of D values that fill no vector. */
static vec load_rest(const stored *x, int count) {
    stored values[LANES];
    memset(values, 0, sizeof values);
    memcpy(values, x, sizeof(stored) * (size_t)count);
    return load_vec(values);
}

static void store_rest(stored *to, vec x, int count) {
    stored values[LANES];
    store_vec(values, x);
    memcpy(to, values, sizeof(stored) * (size_t)count);
}

/* In a register: as an operand in memory it would be loaded again for every use. */
INLINE vec broadcast(REAL x) {
    vec y = x - (vec){0};
#if defined(__AVX512F__)
    __asm__("" : "+v"(y));
#endif
    return y;
}
