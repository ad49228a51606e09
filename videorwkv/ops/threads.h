/* Work of many parts, in threads that live as long as the call: none is there for a fork to lose. */
#pragma once
#include <pthread.h>
#include <stdint.h>

/* Does the parts `first` to `last`; 0 without memory. */
typedef int (*some_parts)(const void *problem, int64_t first, int64_t last);

typedef struct {
    some_parts run;
    const void *problem;
    int64_t first, last;
    int done;
} share;

static void *run_share(void *argument) {
    share *s = argument;
    s->done = s->run(s->problem, s->first, s->last);
    return 0;
}

/* Returns 0 if one of the threads had no memory. */
static int in_threads(some_parts run, const void *problem, int64_t parts, int64_t asked) {
    enum { MOST = 64 };
    if (asked > MOST) asked = MOST;
    const int64_t threads = asked < parts ? asked : parts;
    share shares[MOST];
    pthread_t ids[MOST];
    int started[MOST] = {0}, done = 1;
    for (int64_t t = 0; t < threads; t++) {
        shares[t] = (share){run, problem, parts * t / threads, parts * (t + 1) / threads, 0};
        if (t) started[t] = !pthread_create(&ids[t], 0, run_share, &shares[t]);
    }
    for (int64_t t = 0; t < threads; t++) {
        if (started[t]) pthread_join(ids[t], 0);
        else run_share(&shares[t]);
        done &= shares[t].done;
    }
    return done;
}
