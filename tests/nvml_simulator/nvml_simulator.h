/* What the files of the NVML simulator have in common; nvml_simulator.c says what it does. */
#ifndef NVML_SIMULATOR_H
#define NVML_SIMULATOR_H
#include <stdint.h>

typedef unsigned int nvmlReturn_t;
enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, UNKNOWN = 999
};

#define MAX_PROCESSES 256
#define MAX_INSTANCES 8
/* One process on a card for a span of time; a process whose share changes has several. */
typedef struct {
    double from_s, until_s;
    long long memory_mib; /* below 0: not available */
    int pid, sm_percent, is_graphics, gpu_instance, compute_instance; /* instances: -1 for none */
} Process;
typedef struct {
    int gpu_instance, compute_instance, slices;
    void *card;
    char uuid[96];
} Instance;

typedef struct {
    double watts, low, hz, duty, gain, step_ms, window_ms, usage_ms, offset_mj;
    double samples_ms, samples_window_ms, samples_jitter_ms, samples_missed, call_ms;
    double counter_step_ms, phase_ms, power_phase_ms, jitter_ms, noise_w, latency_ms, dwell_min_ms, dwell_max_ms;
    double *steps_s, *levels_w, *known_j;
    double stand_from_s, stand_until_s, glitch_from_s, glitch_until_s, glitch_mj;
    int stand_loses;
    double reset_s, fail_from_s, fail_until_s, die_s, uninit_s;
    int counter, power, instant, average, fail_every, fail_code, handle_error, arch, mig, samples, part_counter, random;
    char name[96], uuid[96];
    unsigned long calls;
    double module_w, limit_w, settle_ms;
    int processes, graphics, shares, rates, grows, slices, layout, noise, unlisted;
    int process_count, instance_count;
    Process process[MAX_PROCESSES];
    Instance instance[MAX_INSTANCES];
} Gpu;

typedef union {
    double dVal; unsigned int uiVal; unsigned long ulVal; unsigned long long ullVal; long long sllVal; int siVal;
} nvmlValue_t;
typedef struct {
    uint32_t fieldId, scopeId;
    int64_t timestamp, latencyUsec;
    uint32_t valueType, nvmlReturn;
    nvmlValue_t value;
} nvmlFieldValue_t;


/* Hidden: a program that loads the library may have names like these of its own. */
#pragma GCC visibility push(hidden)
int64_t now_ns(void);
int64_t wall_ns(int64_t mono_ns);
int64_t origin(void);
double since_origin_s(int64_t t_ns);
int initialised(void);
/* What a call on a card says before anything else; INVALID_ARGUMENT for what is no card. */
nvmlReturn_t check(void *device);
nvmlReturn_t copy_text(const char *text, char *to, unsigned length);
/* Take a word of a card's configuration that is about processes or instances; 0 where it is about something else. */
int set_process_word(const char *key, const char *value, Gpu *g);
/* The instance that a handle stands for, or NULL. */
Instance *instance_of(void *device);
/* A card, or NULL beyond the last. */
void *sim_card(unsigned index);
#pragma GCC visibility pop
#endif
