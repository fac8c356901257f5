/* Preloaded into the processes of a test: the time of day with an offset that the test can move while they run.

   The file that FASTGW_TEST_CLOCK names holds pairs of 64-bit integers {process id, offset in nanoseconds}; the first
   pair's offset is for everybody without a pair of their own. Clocks other than the time of day are left alone. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define PAIRS 16
#define SECOND 1000000000LL

struct pair { int64_t pid, offset; };

static struct pair *pairs;

__attribute__((constructor)) static void open_clock(void) {
    const char *path = getenv("FASTGW_TEST_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *mapped = mmap(NULL, PAIRS * sizeof(struct pair), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped != MAP_FAILED) pairs = mapped;
}

static int64_t offset(void) {
    if (!pairs) return 0;
    int64_t pid = getpid();
    for (int i = 1; i < PAIRS; i++)
        if (__atomic_load_n(&pairs[i].pid, __ATOMIC_ACQUIRE) == pid)
            return __atomic_load_n(&pairs[i].offset, __ATOMIC_RELAXED);
    return __atomic_load_n(&pairs[0].offset, __ATOMIC_RELAXED);
}

int clock_gettime(clockid_t clock, struct timespec *out) {
    int result = (int)syscall(SYS_clock_gettime, clock, out);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t moved = out->tv_sec * SECOND + out->tv_nsec + offset();
        out->tv_sec = moved / SECOND;
        out->tv_nsec = moved % SECOND;
    }
    return result;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone) {
    struct timespec now;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &now)) return -1;
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
