/* Who is on the simulated cards: lists of processes, their utilisation, and the instances of cards in MIG mode. */
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nvml_simulator.h"

static const unsigned NONE = 0xFFFFFFFFu;

static int add_process(const char *value, int is_graphics, Gpu *g) {
    Process p = {.is_graphics = is_graphics, .gpu_instance = -1, .compute_instance = -1, .until_s = INFINITY};
    if (g->process_count == MAX_PROCESSES) return 1;
    sscanf(value, "%d:%lld:%d:%lf:%lf:%d:%d", &p.pid, &p.memory_mib, &p.sm_percent, &p.from_s, &p.until_s,
           &p.gpu_instance, &p.compute_instance);
    g->process[g->process_count++] = p;
    return 1;
}

static int add_instance(const char *value, Gpu *g) {
    Instance one = {.card = g};
    if (g->instance_count == MAX_INSTANCES) return 1;
    sscanf(value, "%d:%d:%d:%95s", &one.gpu_instance, &one.compute_instance, &one.slices, one.uuid);
    g->instance[g->instance_count++] = one;
    return 1;
}

int set_process_word(const char *key, const char *value, Gpu *g) {
    struct { const char *key; int *to; } wholes[] = {
        {"processes", &g->processes}, {"graphics", &g->graphics}, {"shares", &g->shares}, {"rates", &g->rates},
        {"grows", &g->grows}, {"slices", &g->slices}, {"layout", &g->layout},
        {"noise", &g->noise}, {"unlisted", &g->unlisted}};
    if (!strcmp(key, "proc")) return add_process(value, 0, g);
    if (!strcmp(key, "draw")) return add_process(value, 1, g);
    if (!strcmp(key, "instance")) return add_instance(value, g);
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++)
        if (!strcmp(key, wholes[i].key)) { *wholes[i].to = atoi(value); return 1; }
    return 0;
}

Instance *instance_of(void *device) {
    for (unsigned i = 0; sim_card(i); i++) {
        Gpu *g = sim_card(i);
        for (int j = 0; j < g->instance_count; j++)
            if (device == &g->instance[j]) return &g->instance[j];
    }
    return NULL;
}

/* The card behind a handle of a card or an instance, and whether it can be asked. */
static nvmlReturn_t card_of(void *device, Gpu **g) {
    Instance *one = instance_of(device);
    *g = one ? one->card : device;
    return check(*g);
}

/* What a switch of the configuration makes of a call: 1 works, 0 is not supported, any other number is an error. */
static nvmlReturn_t switched(int how) { return how == 1 ? SUCCESS : how == 0 ? NOT_SUPPORTED : (nvmlReturn_t)how; }

static int is_there(const Process *p, double t) { return t >= p->from_s && t < p->until_s; }

static void write_process(const Process *p, int layout, unsigned char *to) {
    unsigned pid = (unsigned)p->pid, gpu_instance = p->gpu_instance < 0 ? NONE : (unsigned)p->gpu_instance,
             compute_instance = p->compute_instance < 0 ? NONE : (unsigned)p->compute_instance;
    unsigned long long bytes = p->memory_mib < 0 ? ~0ull : (unsigned long long)p->memory_mib << 20;
    memset(to, 0, (size_t)layout);
    memcpy(to, &pid, 4);
    memcpy(to + 8, &bytes, 8);
    if (layout > 16) memcpy(to + 16, &gpu_instance, 4), memcpy(to + 20, &compute_instance, 4);
}

__attribute__((unused)) static nvmlReturn_t list(void *device, int is_graphics, unsigned *count, unsigned char *entries) {
    Gpu *g;
    nvmlReturn_t code = card_of(device, &g);
    Instance *one = instance_of(device);
    double t = since_origin_s(now_ns());
    unsigned found = 0, room = *count;
    if (!code) code = switched(is_graphics ? g->graphics : g->processes);
    if (code) return code;
    for (int i = 0; i < g->process_count; i++) {
        const Process *p = &g->process[i];
        if (p->is_graphics != is_graphics || !is_there(p, t)) continue;
        if (one && (p->gpu_instance != one->gpu_instance || p->compute_instance != one->compute_instance)) continue;
        if (entries && found < room) write_process(p, g->layout, entries + found * (unsigned)g->layout);
        found++;
    }
    *count = found;
    if (g->grows > 0) { g->grows--; *count = room + 1; return INSUFFICIENT_SIZE; }
    return found > room ? INSUFFICIENT_SIZE : SUCCESS;
}

#ifndef OMIT_nvmlDeviceGetComputeRunningProcesses_v3
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *n, void *to) { return list(d, 0, n, to); }
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses_v3(void *d, unsigned *n, void *to) { return list(d, 1, n, to); }
#endif
#ifndef OMIT_nvmlDeviceGetComputeRunningProcesses
nvmlReturn_t nvmlDeviceGetComputeRunningProcesses(void *d, unsigned *n, void *to) { return list(d, 0, n, to); }
nvmlReturn_t nvmlDeviceGetGraphicsRunningProcesses(void *d, unsigned *n, void *to) { return list(d, 1, n, to); }
#endif

typedef struct {
    unsigned pid;
    unsigned long long timeStamp;
    unsigned smUtil, memUtil, encUtil, decUtil;
} Sample;

/* A sample every 250 ms of the trace, of every process that did something, for as long as the driver's buffer: 4 s. */
nvmlReturn_t nvmlDeviceGetProcessUtilization(void *device, Sample *samples, unsigned *count,
                                             unsigned long long since_us) {
    nvmlReturn_t code = check(device);
    Gpu *g = device;
    unsigned found = 0, room = *count;
    if (!code) code = switched(g->mig ? 0 : g->shares);
    if (code) return code;
    long long last = (long long)floor(since_origin_s(now_ns()) / 0.25);
    for (long long k = last - 15; k <= last; k++) {
        double t = (double)k * 0.25;
        unsigned long long stamp = (unsigned long long)(wall_ns(origin() + (int64_t)(t * 1e9)) / 1000);
        for (int i = 0; i < g->process_count && t >= 0; i++) {
            const Process *p = &g->process[i];
            if (!is_there(p, t) || !p->sm_percent || stamp <= since_us) continue;
            if (samples && found < room)
                samples[found] = (Sample){.pid = (unsigned)p->pid, .timeStamp = stamp, .smUtil = (unsigned)p->sm_percent};
            found++;
        }
    }
    for (int i = 0; i < g->noise; i++, found++) /* some of no time, some of no share that can be */
        if (samples && found < room)
            samples[found] = (Sample){.pid = 7u + (unsigned)i, .timeStamp = i % 2 ? 0 : ~0ull >> 1, .smUtil = i % 2 ? 50 : 3000000000u};
    *count = found;
    if (!found) return NOT_FOUND;
    return found > room || !samples ? INSUFFICIENT_SIZE : SUCCESS;
}

nvmlReturn_t nvmlDeviceGetUtilizationRates(void *device, unsigned *gpu_and_memory) {
    nvmlReturn_t code = check(device);
    Gpu *g = device;
    double t = since_origin_s(now_ns());
    unsigned sum = (unsigned)g->unlisted;
    if (!code) code = switched(g->mig ? 0 : g->rates);
    if (code) return code;
    for (int i = 0; i < g->process_count; i++)
        if (is_there(&g->process[i], t)) sum += (unsigned)g->process[i].sm_percent;
    gpu_and_memory[0] = sum > 100 ? 100 : sum;
    gpu_and_memory[1] = 0;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
    nvmlReturn_t code = check(device);
    Gpu *g = device;
    if (!code) *count = g->mig ? 7 : 0;
    return code;
}

/* Instances lie two places apart: the places between them are of instances that nobody made. */
nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **one) {
    nvmlReturn_t code = check(device);
    Gpu *g = device;
    if (code) return code;
    if (index % 2 || (int)(index / 2) >= g->instance_count) return NOT_FOUND;
    *one = &g->instance[index / 2];
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetGpuInstanceId(void *device, unsigned *id) {
    Instance *one = instance_of(device);
    if (!one) return INVALID_ARGUMENT;
    *id = (unsigned)one->gpu_instance;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetComputeInstanceId(void *device, unsigned *id) {
    Instance *one = instance_of(device);
    if (!one) return INVALID_ARGUMENT;
    *id = (unsigned)one->compute_instance;
    return SUCCESS;
}

typedef struct { unsigned number[8]; unsigned long long memory_mb; } Attributes;
nvmlReturn_t nvmlDeviceGetAttributes_v2(void *device, Attributes *attributes) {
    Instance *one = instance_of(device);
    if (!one) return NOT_SUPPORTED;
    memset(attributes, 0, sizeof *attributes);
    attributes->number[6] = attributes->number[7] = (unsigned)one->slices;
    return SUCCESS;
}

/* Profiles of 1, 2, 3 and 4 slices and of all, as far as the card has so many. */
typedef struct { unsigned number[10]; unsigned long long memory_mb; } Profile;
nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(void *device, unsigned profile, Profile *info) {
    nvmlReturn_t code = check(device);
    Gpu *g = device;
    if (code) return code;
    int slices = profile < 4 ? (int)profile + 1 : profile == 4 ? g->slices : 0;
    if (!g->mig || !slices || slices > g->slices) return NOT_SUPPORTED;
    memset(info, 0, sizeof *info);
    info->number[2] = (unsigned)slices;
    return SUCCESS;
}
