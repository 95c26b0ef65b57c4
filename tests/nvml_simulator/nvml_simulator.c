/* A libnvidia-ml.so.1 that plays known power traces: NVML's call interface, in real time or at a set time.
 *
 * The trace is configured by the environment variable NVML_SIMULATOR (read at nvmlInit) or by sim_configure().
 * Sections are separated by ';', words within a section by spaces. A section that starts with `gpu` adds a card:
 *
 *   driver=550.54 ; gpu watts=300 low=80 hz=2 duty=0.5 gain=1.05 ; gpu watts=100 counter=0
 *
 * globals:  driver=TEXT  init_error=CODE  origin_ns=N (the trace's time 0; default: when it was configured)
 * cards:    watts=W low=W hz=F duty=SHARE   constant when hz is 0, else a square wave that starts high
 *           gain=G            what the sensor reports over what is true
 *           random=SEED       instead: levels from low to watts that last from dwell_min_ms to dwell_max_ms (200, 3000)
 *           step_ms=MS        how often counter and power are renewed (100)
 *           counter_step_ms=MS  how often the counter is, where it differs
 *           phase_ms=MS       when they are renewed within their step; power_phase_ms=MS  how much later power is
 *           jitter_ms=MS      standard deviation of each renewal's time, up to a fifth of the step
 *           noise_w=W         standard deviation of each power reading
 *           latency_ms=MS     by how much values are older than their renewal
 *           part_counter=0|1  the counter adds up what power shows, and sees no more than that
 *           window_ms=MS      what an instantaneous power looks at before each renewal (25)
 *           usage_ms=MS       the same for nvmlDeviceGetPowerUsage (25)
 *           settle_ms=MS      power follows with this time constant, as the voltage of a charging capacitor does
 *           samples_ms=MS samples_window_ms=MS samples_jitter_ms=MS samples_missed=SHARE   the buffer, where it has a
 *                             rhythm and an average of its own (else those of nvmlDeviceGetPowerUsage)
 *           call_ms=MS        how long the counter takes to answer; at a set time, time moves on by it
 *           counter=0|1 power=0|1 instant=0|1 average=0|1 samples=0|1   what is supported (samples: not)
 *           offset_mj=N       count of the counter at the origin
 *           reset_s=S         the counter starts again at 0
 *           stand_from_s=S stand_until_s=S stand_loses=0|1  the counter stands still in that span, and then has caught up
 *                             (0) or has lost what was drawn in it (1)
 *           glitch_from_s=S glitch_until_s=S glitch_mj=N  the counter shows N in that span (0), whatever was drawn
 *           fail_every=N fail_code=C  every nth reading fails (999)
 *           fail_from_s=S fail_until_s=S  every reading in that span fails
 *           die_s=S           the card is lost
 *           uninit_s=S        NVML is uninitialised from then on, until it is initialised again
 *           handle_error=C    the card has no handle
 *           arch=N mig=0|1 name=TEXT uuid=TEXT  (no spaces)
 *           limit_w=W         the most the card may draw, which it tells (0: it tells none)
 *           module_w=W        the card sits on a module (Grace) that draws W more than it
 *           proc=PID:MIB:PERCENT:FROM_S:UNTIL_S[:GI:CI]  a process that computes, in an instance or none; several with
 *                             one PID make a share that changes; MIB below 0 is not available; UNTIL_S may be inf
 *           draw=…            the same for a process that draws
 *           processes=0|CODE graphics=0|CODE shares=0|CODE rates=0|CODE  not supported (0), or fails with that code
 *           unlisted=PERCENT  how busy processes keep the card that no list shows
 *           noise=N           the samples of utilisation end in N entries that nothing was written to
 *           grows=N           the next N lists of processes have grown since their size was asked for
 *           layout=16|24|32   bytes that the driver writes for each process, whatever its interface says (24)
 *           instance=GI:CI:SLICES:UUID  slices=N   of a card in MIG mode
 *
 * Symbols are left out of the library with -DOMIT_<name>.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "nvml_simulator.h"

#define MAX_GPUS 16
static Gpu gpus[MAX_GPUS];
static unsigned gpu_count, init_error;
static int is_configured, init_depth;
static int64_t origin_ns, set_time_ns = -1, initialised_ns;
static char driver_version[80];

int64_t now_ns(void) {
    struct timespec t;
    if (set_time_ns >= 0) return set_time_ns;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

double since_origin_s(int64_t t_ns) { return (double)(t_ns - origin_ns) / 1e9; }

static int64_t wall_offset_ns = INT64_MIN;
/* Wall clock less monotonic clock, where time is set; the machine's own otherwise. */
void sim_set_wall_offset_ns(int64_t offset_ns) { wall_offset_ns = offset_ns; }
int64_t wall_ns(int64_t mono_ns) {
    struct timespec wall, mono;
    if (wall_offset_ns != INT64_MIN) return mono_ns + wall_offset_ns;
    clock_gettime(CLOCK_REALTIME, &wall);
    clock_gettime(CLOCK_MONOTONIC, &mono);
    return mono_ns + ((int64_t)wall.tv_sec - mono.tv_sec) * 1000000000 + wall.tv_nsec - mono.tv_nsec;
}
int64_t origin(void) { return origin_ns; }
int initialised(void) { return init_depth > 0; }

/* A number from 0 to 1 that depends on its arguments alone: the trace must not depend on who asks when. */
static double drawn(uint64_t seed, uint64_t what, int64_t number) {
    uint64_t x = seed * 0x9E3779B97F4A7C15u + what * 0xBF58476D1CE4E5B9u + (uint64_t)number * 0x94D049BB133111EBu;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return (double)((x ^ (x >> 31)) >> 11) / 9007199254740992.0;
}
static double normal(uint64_t seed, uint64_t what, int64_t number) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += drawn(seed, what * 16 + (uint64_t)i, number);
    return sum;
}

static uint64_t seed_of(const Gpu *g) { return (uint64_t)(g - gpus) + 1 + 1000 * (uint64_t)g->random; }

#define RANDOM_STEPS 65536
static void draw_trace(Gpu *g) {
    if (!g->random) return;
    g->steps_s = malloc(3 * RANDOM_STEPS * sizeof(double));
    g->levels_w = g->steps_s + RANDOM_STEPS;
    g->known_j = g->levels_w + RANDOM_STEPS;
    double t = 0, joules = 0;
    for (int i = 0; i < RANDOM_STEPS; i++) {
        double dwell = g->dwell_min_ms + (g->dwell_max_ms - g->dwell_min_ms) * drawn((uint64_t)g->random, 1, i);
        g->steps_s[i] = t;
        g->known_j[i] = joules;
        g->levels_w[i] = g->low + (g->watts - g->low) * drawn((uint64_t)g->random, 2, i);
        t += dwell / 1e3;
        joules += dwell / 1e3 * g->levels_w[i];
    }
}

/* The step that t is in. Most questions are about a time near the last one, and a search through the whole trace would
 * cost more than the reading that is measured; where it begins changes nothing of what it finds. */
static int step_at(const Gpu *g, double t) {
    static int last[MAX_GPUS];
    int low = last[g - gpus], high = low, steps = 1;
    for (; low > 0 && g->steps_s[low] > t; steps *= 2) high = low - 1, low = low > steps ? low - steps : 0;
    for (; high < RANDOM_STEPS - 1 && g->steps_s[high + 1] <= t; steps *= 2)
        low = high + 1, high = high + steps < RANDOM_STEPS - 1 ? high + steps : RANDOM_STEPS - 1;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (g->steps_s[middle] <= t) low = middle;
        else high = middle - 1;
    }
    return last[g - gpus] = low;
}

static double random_j(const Gpu *g, double t) {
    int i = step_at(g, t);
    return g->known_j[i] + (t - g->steps_s[i]) * g->levels_w[i];
}

/* True joules from the trace's origin to t, exact for t before the origin too. */
static double energy_j(const Gpu *g, double t) {
    if (g->random) return random_j(g, t);
    if (g->hz <= 0) return g->watts * t;
    double period = 1.0 / g->hz, high_s = period * g->duty;
    double whole = floor(t / period), rest = t - whole * period;
    double cycle = high_s * g->watts + (period - high_s) * g->low;
    return whole * cycle + fmin(rest, high_s) * g->watts + fmax(rest - high_s, 0) * g->low;
}

/* When the k-th renewal was. */
static double renewal_s(const Gpu *g, int64_t k, double step_ms, double phase_ms) {
    double stray = g->jitter_ms ? g->jitter_ms * normal(seed_of(g), 3, k) : 0;
    return (phase_ms + (double)k * step_ms + fmax(-step_ms / 5, fmin(stray, step_ms / 5))) / 1e3;
}

/* Number of the last renewal at t. */
static int64_t renewal(const Gpu *g, double t, double step_ms, double phase_ms) {
    int64_t k = (int64_t)floor((t * 1e3 - phase_ms) / step_ms + 1e-9) + 1;
    while (renewal_s(g, k, step_ms, phase_ms) > t + 1e-12) k--;
    return k;
}

static double power_phase(const Gpu *g) { return g->phase_ms + g->power_phase_ms; }

/* What a reading shows that follows the true power as the voltage of a capacitor that is charged does. */
static double settling_w(const Gpu *g, double t) {
    double tau = g->settle_ms / 1e3, h = tau / 50, shown = 0, weight = 0;
    for (int i = 0; i < 600; i++) {
        double w = exp(-(i + 0.5) / 50);
        shown += w * (energy_j(g, t - i * h) - energy_j(g, t - (i + 1) * h)) / h;
        weight += w;
    }
    return shown / weight;
}

static double power_at_renewal_w(const Gpu *g, int64_t k, double window_ms) {
    double end = renewal_s(g, k, g->step_ms, power_phase(g)) - g->latency_ms / 1e3, window = window_ms / 1e3;
    double noise = g->noise_w ? g->noise_w * normal(seed_of(g), 5, k) : 0;
    double shown = g->settle_ms > 0 ? settling_w(g, end) : (energy_j(g, end) - energy_j(g, end - window)) / window;
    return fmax(0, shown * g->gain + noise);
}

static double power_w(const Gpu *g, double t, double window_ms) {
    return power_at_renewal_w(g, renewal(g, t, g->step_ms, power_phase(g)), window_ms);
}

/* What the counter stands at, without its gain: exact at its last renewal, or the sum of what power showed. */
static double going_j(const Gpu *g, double t) {
    double step_ms = g->counter_step_ms > 0 ? g->counter_step_ms : g->step_ms;
    int64_t k = renewal(g, t, step_ms, g->phase_ms);
    if (!g->part_counter) return energy_j(g, renewal_s(g, k, step_ms, g->phase_ms) - g->latency_ms / 1e3);
    double joules = 0;
    for (int64_t i = 1; i <= k; i++) joules += power_at_renewal_w(g, i, g->window_ms) / g->gain * step_ms / 1e3;
    return joules;
}

/* The same, of a counter that stands still for a while, and then has caught up or goes on from where it stood. */
__attribute__((unused)) static double counted_j(const Gpu *g, double t) {
    if (t < g->stand_from_s) return going_j(g, t);
    double stood_j = going_j(g, g->stand_from_s);
    if (t < g->stand_until_s) return stood_j;
    return going_j(g, t) - (g->stand_loses ? going_j(g, g->stand_until_s) - stood_j : 0);
}

static void set_number(const char *key, const char *value, Gpu *g) {
    double x = atof(value);
    struct { const char *key; double *to; } reals[] = {
        {"watts", &g->watts}, {"low", &g->low}, {"hz", &g->hz}, {"duty", &g->duty}, {"gain", &g->gain},
        {"counter_step_ms", &g->counter_step_ms}, {"phase_ms", &g->phase_ms}, {"power_phase_ms", &g->power_phase_ms},
        {"jitter_ms", &g->jitter_ms}, {"noise_w", &g->noise_w}, {"latency_ms", &g->latency_ms},
        {"samples_ms", &g->samples_ms}, {"samples_window_ms", &g->samples_window_ms},
        {"samples_jitter_ms", &g->samples_jitter_ms}, {"samples_missed", &g->samples_missed}, {"call_ms", &g->call_ms},
        {"dwell_min_ms", &g->dwell_min_ms}, {"dwell_max_ms", &g->dwell_max_ms}, {"step_ms", &g->step_ms}, {"window_ms", &g->window_ms}, {"usage_ms", &g->usage_ms},
        {"offset_mj", &g->offset_mj}, {"reset_s", &g->reset_s}, {"fail_from_s", &g->fail_from_s},
        {"fail_until_s", &g->fail_until_s}, {"die_s", &g->die_s}, {"uninit_s", &g->uninit_s}, {"module_w", &g->module_w},
        {"limit_w", &g->limit_w}, {"settle_ms", &g->settle_ms}, {"stand_from_s", &g->stand_from_s}, {"stand_until_s", &g->stand_until_s},
        {"glitch_from_s", &g->glitch_from_s}, {"glitch_until_s", &g->glitch_until_s}, {"glitch_mj", &g->glitch_mj}};
    struct { const char *key; int *to; } wholes[] = {
        {"counter", &g->counter}, {"power", &g->power}, {"instant", &g->instant}, {"average", &g->average},
        {"fail_every", &g->fail_every}, {"fail_code", &g->fail_code}, {"handle_error", &g->handle_error},
        {"arch", &g->arch}, {"mig", &g->mig}, {"samples", &g->samples}, {"part_counter", &g->part_counter},
        {"random", &g->random}, {"stand_loses", &g->stand_loses}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
        if (!strcmp(key, reals[i].key)) *reals[i].to = x;
    for (size_t i = 0; i < sizeof wholes / sizeof *wholes; i++)
        if (!strcmp(key, wholes[i].key)) *wholes[i].to = (int)x;
}

static void set_word(char *word, Gpu *g) {
    char *value = strchr(word, '=');
    if (!value) return;
    *value++ = 0;
    if (g && set_process_word(word, value, g)) return;
    if (g && !strcmp(word, "name")) snprintf(g->name, sizeof g->name, "%s", value);
    else if (g && !strcmp(word, "uuid")) snprintf(g->uuid, sizeof g->uuid, "%s", value);
    else if (g) set_number(word, value, g);
    else if (!strcmp(word, "driver")) snprintf(driver_version, sizeof driver_version, "%s", value);
    else if (!strcmp(word, "init_error")) init_error = (unsigned)atoi(value);
    else if (!strcmp(word, "origin_ns")) origin_ns = atoll(value);
}

static Gpu *add_gpu(void) {
    if (gpu_count == MAX_GPUS) return NULL;
    Gpu *g = &gpus[gpu_count];
    *g = (Gpu){.watts = 100, .duty = 0.5, .gain = 1, .step_ms = 100, .window_ms = 25, .usage_ms = 25,
               .reset_s = INFINITY, .stand_from_s = INFINITY, .stand_until_s = INFINITY, .fail_from_s = INFINITY, .fail_until_s = INFINITY, .die_s = INFINITY,
               .uninit_s = INFINITY, .glitch_from_s = INFINITY, .glitch_until_s = INFINITY, .counter = 1, .power = 1, .instant = 1, .average = 1,
               .fail_code = UNKNOWN, .arch = 9, .dwell_min_ms = 200, .dwell_max_ms = 3000,
               .processes = 1, .graphics = 1, .shares = 1, .rates = 1, .layout = 24, .module_w = -1};
    snprintf(g->name, sizeof g->name, "Simulated-GPU");
    snprintf(g->uuid, sizeof g->uuid, "GPU-00000000-0000-0000-0000-%012u", gpu_count);
    gpu_count++;
    return g;
}

/* Replace the configuration; the trace starts now unless origin_ns says otherwise. NVML is left uninitialised. */
void sim_configure(const char *text) {
    char *copy = strdup(text), *rest = copy, *section;
    for (unsigned i = 0; i < gpu_count; i++) free(gpus[i].steps_s);
    gpu_count = init_error = 0;
    init_depth = 0;
    origin_ns = now_ns();
    snprintf(driver_version, sizeof driver_version, "550.54.15");
    while ((section = strsep(&rest, ";"))) {
        char *words = section, *word;
        Gpu *g = NULL;
        while ((word = strsep(&words, " ")))
            if (!strcmp(word, "gpu")) g = add_gpu();
            else set_word(word, g);
        if (g) draw_trace(g);
    }
    free(copy);
    is_configured = 1;
}

void *sim_card(unsigned index) { return index < gpu_count ? &gpus[index] : NULL; }
void sim_set_time_ns(int64_t t_ns) { set_time_ns = t_ns; }
int64_t sim_now_ns(void) { return now_ns(); }
int64_t sim_origin_ns(void) { return origin_ns; }
double sim_true_energy_j(unsigned index, int64_t start_ns, int64_t end_ns) {
    return energy_j(&gpus[index], since_origin_s(end_ns)) - energy_j(&gpus[index], since_origin_s(start_ns));
}

nvmlReturn_t check(void *device) {
    Gpu *g = device;
    double t = since_origin_s(now_ns());
    if (!init_depth) return UNINITIALIZED;
    if (g < gpus || g >= gpus + gpu_count) return INVALID_ARGUMENT;
    if (t >= g->uninit_s && since_origin_s(initialised_ns) < g->uninit_s) return UNINITIALIZED;
    return t >= g->die_s ? GPU_IS_LOST : SUCCESS;
}

/* The same for calls that read a sensor: these fail on request. */
static nvmlReturn_t check_reading(void *device) {
    nvmlReturn_t code = check(device);
    if (code) return code;
    Gpu *g = device;
    double t = since_origin_s(now_ns());
    if (t >= g->fail_from_s && t < g->fail_until_s) return (nvmlReturn_t)g->fail_code;
    if (g->fail_every && ++g->calls % (unsigned long)g->fail_every == 0) return (nvmlReturn_t)g->fail_code;
    return SUCCESS;
}

nvmlReturn_t copy_text(const char *text, char *to, unsigned length) {
    if (strlen(text) + 1 > length) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    if (!is_configured) sim_configure(getenv("NVML_SIMULATOR") ? getenv("NVML_SIMULATOR") : "");
    if (init_error) return init_error;
    init_depth++;
    initialised_ns = now_ns();
    return SUCCESS;
}
nvmlReturn_t nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

nvmlReturn_t nvmlShutdown(void) {
    if (!init_depth) return UNINITIALIZED;
    init_depth--;
    return SUCCESS;
}

const char *nvmlErrorString(nvmlReturn_t code) { return code == UNKNOWN ? "Unknown Error" : "Simulated Error"; }

nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
    return init_depth ? copy_text(driver_version, version, length) : UNINITIALIZED;
}
nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    return init_depth ? copy_text("12.550.54.15", version, length) : UNINITIALIZED;
}

nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    if (!init_depth) return UNINITIALIZED;
    *count = gpu_count;
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (!init_depth) return UNINITIALIZED;
    if (index >= gpu_count) return INVALID_ARGUMENT;
    if (gpus[index].handle_error) return (nvmlReturn_t)gpus[index].handle_error;
    *device = &gpus[index];
    return SUCCESS;
}

nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    if (!init_depth) return UNINITIALIZED;
    for (unsigned i = 0; i < gpu_count; i++)
        if (!strcmp(uuid, gpus[i].uuid)) return nvmlDeviceGetHandleByIndex_v2(i, device);
    return NOT_FOUND;
}

nvmlReturn_t nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) {
    if (initialised() && instance_of(device)) return copy_text(instance_of(device)->uuid, uuid, length);
    nvmlReturn_t code = check(device);
    return code ? code : copy_text(((Gpu *)device)->uuid, uuid, length);
}
nvmlReturn_t nvmlDeviceGetName(void *device, char *name, unsigned length) {
    nvmlReturn_t code = check(device);
    return code ? code : copy_text(((Gpu *)device)->name, name, length);
}

nvmlReturn_t nvmlDeviceGetArchitecture(void *device, unsigned *architecture) {
    nvmlReturn_t code = check(device);
    if (!code) *architecture = (unsigned)((Gpu *)device)->arch;
    return code;
}

#ifndef OMIT_nvmlDeviceGetMigMode
nvmlReturn_t nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    nvmlReturn_t code = check(device);
    if (!code) *current = *pending = (unsigned)((Gpu *)device)->mig;
    return code;
}
#endif

#ifndef OMIT_nvmlDeviceGetTotalEnergyConsumption
static void take_time(double ms) {
    if (ms <= 0) return;
    if (set_time_ns >= 0) set_time_ns += (int64_t)(ms * 1e6);
    else nanosleep(&(struct timespec){.tv_nsec = (long)(ms * 1e6)}, NULL);
}
nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *energy_mj) {
    nvmlReturn_t code = check_reading(device);
    Gpu *g = device;
    if (code) return code;
    if (!g->counter) return NOT_SUPPORTED;
    take_time(g->call_ms / 2); /* the value is taken in the middle of the call */
    double t = since_origin_s(now_ns()), joules = counted_j(g, t);
    joules += t >= g->reset_s ? -energy_j(g, g->reset_s) : g->offset_mj / 1e3;
    if (joules < 0) joules = 0;
    *energy_mj = (unsigned long long)floor(joules * 1e3 * g->gain + 1e-6);
    if (t >= g->glitch_from_s && t < g->glitch_until_s) *energy_mj = (unsigned long long)g->glitch_mj;
    take_time(g->call_ms / 2);
    return SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetPowerUsage
nvmlReturn_t nvmlDeviceGetPowerUsage(void *device, unsigned *power_mw) {
    nvmlReturn_t code = check_reading(device);
    Gpu *g = device;
    if (code) return code;
    if (!g->power) return NOT_SUPPORTED;
    *power_mw = (unsigned)lround(power_w(g, since_origin_s(now_ns()), g->usage_ms) * 1e3);
    return SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetEnforcedPowerLimit
nvmlReturn_t nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *limit_mw) {
    nvmlReturn_t code = check(device);
    Gpu *g = device;
    if (code) return code;
    if (g->limit_w <= 0) return NOT_SUPPORTED;
    *limit_mw = (unsigned)lround(g->limit_w * 1e3);
    return SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetFieldValues
static void fill_field(const Gpu *g, nvmlFieldValue_t *field) {
    double t = since_origin_s(now_ns());
    int is_average = field->fieldId == 185, is_instant = field->fieldId == 186;
    field->timestamp = now_ns() / 1000;
    field->latencyUsec = 0;
    field->valueType = 1; /* unsigned int */
    field->nvmlReturn = NOT_SUPPORTED;
    if (field->scopeId == 1) { /* the whole module: what is on it beside the card draws the same all the time */
        if (g->module_w < 0 || !(is_average || is_instant)) return;
        field->nvmlReturn = SUCCESS;
        field->value.uiVal = (unsigned)lround((power_w(g, t, is_average ? 1000 : g->window_ms) + g->module_w) * 1e3);
    } else if ((is_average && g->average) || (is_instant && g->instant)) {
        field->nvmlReturn = SUCCESS;
        field->value.uiVal = (unsigned)lround(power_w(g, t, is_average ? 1000 : g->window_ms) * 1e3);
    }
}

nvmlReturn_t nvmlDeviceGetFieldValues(void *device, int count, nvmlFieldValue_t *fields) {
    nvmlReturn_t code = check_reading(device);
    if (code) return code;
    for (int i = 0; i < count; i++) fill_field(device, &fields[i]);
    return SUCCESS;
}
#endif

#ifndef OMIT_nvmlDeviceGetSamples
#define BUFFERED 120
typedef struct { unsigned long long timeStamp; nvmlValue_t value; } nvmlSample_t;
/* Its rhythm is that of the plain reading, or one of its own. */
static double buffer_step_ms(const Gpu *g) { return g->samples_ms > 0 ? g->samples_ms : g->step_ms; }
static double buffered_s(const Gpu *g, int64_t k) {
    if (g->samples_ms <= 0) return renewal_s(g, k, g->step_ms, power_phase(g));
    double stray = g->samples_jitter_ms * normal(seed_of(g), 8, k);
    return (power_phase(g) + (double)k * g->samples_ms + fmax(-g->samples_ms / 3, fmin(stray, g->samples_ms / 3))) / 1e3;
}
static double buffered_w(const Gpu *g, int64_t k) {
    if (g->samples_ms <= 0) return power_at_renewal_w(g, k, g->usage_ms);
    double end = buffered_s(g, k) - g->latency_ms / 1e3, window = g->samples_window_ms / 1e3;
    double noise = g->noise_w ? g->noise_w * normal(seed_of(g), 7, k) : 0;
    return fmax(0, (energy_j(g, end) - energy_j(g, end - window)) / window * g->gain + noise);
}
/* The driver's own buffer of power readings, each with the wall-clock microsecond of its renewal. */
nvmlReturn_t nvmlDeviceGetSamples(void *device, int type, unsigned long long since_us, unsigned *value_type,
                                  unsigned *count, nvmlSample_t *samples) {
    nvmlReturn_t code = check_reading(device);
    Gpu *g = device;
    if (code) return code;
    if (!g->samples || type != 0) return NOT_SUPPORTED;
    *value_type = 1; /* unsigned int */
    if (!samples) { *count = BUFFERED; return SUCCESS; }
    double now_s = since_origin_s(now_ns());
    int64_t last = (int64_t)floor((now_s * 1e3 - power_phase(g)) / buffer_step_ms(g)) + 2;
    unsigned found = 0;
    for (int64_t k = last - BUFFERED - 1; k <= last && found < BUFFERED; k++) {
        double end_s = buffered_s(g, k);
        int64_t mono_ns = origin_ns + (int64_t)(end_s * 1e9);
        unsigned long long stamp = (unsigned long long)(wall_ns(mono_ns) / 1000);
        if (stamp <= since_us || mono_ns < origin_ns || end_s > now_s + 1e-12) continue;
        if (g->samples_missed && drawn(seed_of(g), 9, k) < g->samples_missed) continue;
        samples[found].timeStamp = stamp;
        samples[found++].value.uiVal = (unsigned)lround(buffered_w(g, k) * 1e3);
    }
    *count = found;
    return found ? SUCCESS : NOT_FOUND;
}
#endif
