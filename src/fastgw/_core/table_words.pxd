"""Words of the shared table: atomic steps, and GCRA on one word. All inline, no module of its own.

Used and tag of a slot are a pair that changes with one 128-bit compare-and-swap. A pair's tag is another after every
change, so a pair read in two halves is whole when the tag was the same before and after.
"""

from libc.stdint cimport uint64_t

cdef extern from *:
    """
    #include <stdint.h>

    static inline uint64_t fgw_load(uint64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    static inline void fgw_store(uint64_t *word, uint64_t value) { __atomic_store_n(word, value, __ATOMIC_RELEASE); }
    static inline int fgw_swap(uint64_t *word, uint64_t *old, uint64_t value) {
        return __atomic_compare_exchange_n(word, old, value, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
    }
    static inline void fgw_add(uint64_t *word, uint64_t n) { (void)__atomic_fetch_add(word, n, __ATOMIC_RELAXED); }

    static inline void fgw_load_pair(uint64_t *pair, uint64_t *out) {
        do {
            out[1] = fgw_load(pair + 1);
            out[0] = fgw_load(pair);
            __atomic_thread_fence(__ATOMIC_ACQUIRE);
        } while (fgw_load(pair + 1) != out[1]);
    }

    /* The compiler's own 128-bit atomics would call libatomic, which may use locks of its process. */
    #if defined(__x86_64__)
    static inline int fgw_swap_pair(uint64_t *pair, const uint64_t *old, uint64_t first, uint64_t second) {
        uint64_t low = old[0], high = old[1];
        unsigned char done;
        __asm__ __volatile__("lock cmpxchg16b %1\\n\\tsete %0"
                             : "=q"(done), "+m"(*(unsigned __int128 *)pair), "+a"(low), "+d"(high)
                             : "b"(first), "c"(second) : "cc", "memory");
        return done;
    }
    #elif defined(__aarch64__)
    static inline int fgw_swap_pair(uint64_t *pair, const uint64_t *old, uint64_t first, uint64_t second) {
        unsigned __int128 *both = (unsigned __int128 *)pair;
        uint64_t low, high;
        uint32_t failed;
        do {
            __asm__ __volatile__("ldaxp %0, %1, %2" : "=&r"(low), "=&r"(high) : "Q"(*both) : "memory");
            if (low != old[0] || high != old[1]) {
                __asm__ __volatile__("clrex" : : : "memory");
                return 0;
            }
            __asm__ __volatile__("stlxp %w0, %2, %3, %1"
                                 : "=&r"(failed), "=Q"(*both) : "r"(first), "r"(second) : "memory");
        } while (failed);
        return 1;
    }
    #else
    #error "no 128-bit compare-and-swap is known for this machine: the pure twin serves"
    #endif

    /* units * interval, or cap + 1 where it exceeds cap: what is more than a whole burst need not be known exactly. */
    static inline uint64_t fgw_product(uint64_t units, uint64_t interval, uint64_t cap) {
        unsigned __int128 product = (unsigned __int128)units * interval;
        return product > cap ? cap + 1 : (uint64_t)product;
    }
    static inline int fgw_bits(uint64_t value) { return value ? 64 - __builtin_clzll(value) : 0; }
    """
    uint64_t fgw_load(uint64_t *word) noexcept nogil
    void fgw_store(uint64_t *word, uint64_t value) noexcept nogil
    int fgw_swap(uint64_t *word, uint64_t *old, uint64_t value) noexcept nogil
    void fgw_add(uint64_t *word, uint64_t n) noexcept nogil
    void fgw_load_pair(uint64_t *pair, uint64_t *out) noexcept nogil
    int fgw_swap_pair(uint64_t *pair, const uint64_t *old, uint64_t first, uint64_t second) noexcept nogil
    uint64_t fgw_product(uint64_t units, uint64_t interval, uint64_t cap) noexcept nogil
    int fgw_bits(uint64_t value) noexcept nogil

cdef enum:
    SKEW_NS = 250_000_000
    NO_TIME = 0x7FFFFFFFFFFFFFFF


cdef inline uint64_t level_of(uint64_t tat, uint64_t cap, uint64_t now) noexcept nogil:
    """How far TAT is ahead of now, clamped to what the rule can have set, now or ``SKEW_NS`` later."""
    if tat <= now:
        return 0
    return tat - now if tat - now <= cap + SKEW_NS else cap


cdef inline bint charge_rate(uint64_t *word, uint64_t cap, uint64_t need, uint64_t now, uint64_t *level) noexcept nogil:
    """Move TAT by ``need`` if it fits; ``level`` is what it then is, or what it was where it did not fit."""
    cdef uint64_t tat = fgw_load(word)
    while True:
        level[0] = level_of(tat, cap, now)
        if level[0] + need > cap:
            # A word beyond the clamp (damaged, or of a rule since changed) is put right, or the wait would not pass.
            if tat > now + level[0] and not fgw_swap(word, &tat, now + level[0]):
                continue
            return False
        if fgw_swap(word, &tat, now + level[0] + need):
            level[0] += need
            return True


cdef inline void discharge_rate(uint64_t *word, uint64_t cap, uint64_t need, uint64_t now) noexcept nogil:
    """Move TAT back by ``need``, not below rest."""
    cdef uint64_t level
    cdef uint64_t tat = fgw_load(word)
    while True:
        level = level_of(tat, cap, now)
        if fgw_swap(word, &tat, now + (level - need if level > need else 0)):
            return


cdef inline void overcharge_rate(uint64_t *word, uint64_t cap, uint64_t need, uint64_t now) noexcept nogil:
    """Move TAT on by ``need``, to the rule's end at most."""
    cdef uint64_t level, moved
    cdef uint64_t tat = fgw_load(word)
    while True:
        level = level_of(tat, cap, now)
        moved = level + need if level + need < cap else cap
        if fgw_swap(word, &tat, now + (moved if moved > level else level)):
            return
