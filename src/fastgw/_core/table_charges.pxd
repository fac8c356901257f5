"""Charges of calls in flight: what ``book_py`` specifies, with atomic steps. All inline, no module of its own.

Figures that come out of the file are held against the geometry before they become an address.
"""

from libc.stdint cimport int64_t, uint8_t, uint64_t

from fastgw._core.table_words cimport (
    charge_rate,
    discharge_rate,
    fgw_load,
    fgw_load_pair,
    fgw_product,
    fgw_store,
    fgw_swap,
    fgw_swap_pair,
    level_of,
    overcharge_rate,
)

cdef enum:
    LINE_WORDS = 8
    SLOT_VALUE = 2
    ENTRY_CHARGES = 24
    WHAT = 0
    AMOUNT = 1
    STATUS = 2
    FIGURE = 3
    BOUND = 4
    CHARGE_WORDS = 5
    MAX_CHARGES = 24
    ENTRY_WORDS = 144
    WINDOW_SHIFT = 44
    GENERATION_MASK = 0x1FFFF
    WINDOW_MASK = 0xFFFFF

cdef enum:
    DONE, INTENDED, APPLIED, SETTLING

cdef enum:
    RATE = 1
    HOUR = 2
    MONTH = 4
    CONCURRENT = 6

cdef enum:
    C_REQUESTS, C_TOKENS, C_NANO

cdef struct Bound:
    int64_t slot
    int kind
    int unit
    bint soft
    uint64_t limit
    uint64_t interval
    uint64_t cap

cdef struct Ground:
    uint64_t *slots
    uint64_t *entries
    uint64_t slot_count
    uint64_t lane_count
    uint64_t entry_count
    uint64_t lane_words

cdef struct Place:
    uint64_t *charge
    uint64_t lane
    uint64_t entry
    uint64_t number

cdef struct Tight:
    int64_t place
    uint64_t left
    int64_t reset

cdef struct Judgement:
    int64_t refused
    int64_t wait
    uint64_t used
    uint64_t soft
    Tight tight[3]


cdef inline uint64_t most() noexcept nogil:
    """``MAX_AMOUNT``."""
    return <uint64_t> 1 << 62


cdef inline uint64_t least(uint64_t a, uint64_t b) noexcept nogil:
    return a if a < b else b


cdef inline uint64_t *entry_at(const Ground *ground, uint64_t lane, uint64_t entry) noexcept nogil:
    return ground.entries + lane * ground.lane_words + entry * ENTRY_WORDS


cdef inline Place place_of(const Ground *ground, uint64_t lane, uint64_t entry, uint64_t number) noexcept nogil:
    return Place(entry_at(ground, lane, entry) + ENTRY_CHARGES + number * CHARGE_WORDS, lane, entry, number)


cdef inline uint64_t *pair_of(const Ground *ground, uint64_t slot) noexcept nogil:
    return ground.slots + slot * LINE_WORDS + SLOT_VALUE


cdef inline uint64_t slot_of(const uint64_t *charge) noexcept nogil:
    return charge[WHAT] & 0xFFFFFF


cdef inline int kind_of(const uint64_t *charge) noexcept nogil:
    return charge[WHAT] >> 24 & 255


cdef inline int unit_of(const uint64_t *charge) noexcept nogil:
    return <int> least(charge[WHAT] >> 32 & 255, C_NANO)


cdef inline int state_of(uint64_t *charge) noexcept nogil:
    return fgw_load(charge + STATUS) & 255


cdef inline void mark(uint64_t *charge, uint64_t state) noexcept nogil:
    fgw_store(charge + STATUS, charge[STATUS] >> 8 << 8 | state)


cdef inline uint64_t tag_of(const Place *place, uint64_t phase) noexcept nogil:
    return (
        (place.charge[WHAT] >> 40 & WINDOW_MASK) << WINDOW_SHIFT
        | place.lane << 36
        | place.entry << 23
        | place.number << 18
        | phase << 17
        | place.charge[STATUS] >> 8
    )


cdef inline void help_writer(const Ground *ground, uint64_t slot, uint64_t tag) noexcept nogil:
    """Mark the charge that left this tag, which is to be overwritten."""
    cdef uint64_t lane = tag >> 36 & 255, entry = tag >> 23 & 0x1FFF, number = tag >> 18 & 31, phase = tag >> 17 & 1
    cdef uint64_t generation = tag & GENERATION_MASK, status
    cdef uint64_t *charge
    if not generation or lane >= ground.lane_count or entry >= ground.entry_count or number >= MAX_CHARGES:
        return
    charge = place_of(ground, lane, entry, number).charge
    status = generation << 8 | (SETTLING if phase else INTENDED)
    # Marked by swap: its owner may be alive and further than this.
    if fgw_load(charge + STATUS) == status and slot_of(charge) == slot:
        fgw_swap(charge + STATUS, &status, generation << 8 | (DONE if phase else APPLIED))


cdef inline void write_charge(uint64_t *charge, const Bound *rule, uint64_t amount, uint64_t window) noexcept nogil:
    """Fill all but the status."""
    cdef uint64_t kind = rule.kind, unit = rule.unit
    fgw_store(charge + WHAT, <uint64_t> rule.slot | kind << 24 | unit << 32 | window << 40)
    fgw_store(charge + AMOUNT, amount)
    fgw_store(charge + FIGURE, rule.interval)
    fgw_store(charge + BOUND, rule.cap if rule.kind == RATE else rule.limit)


cdef inline uint64_t next_status(uint64_t *charge) noexcept nogil:
    """The charge's next generation, never 0, with no state yet."""
    return ((charge[STATUS] >> 8 & GENERATION_MASK) % GENERATION_MASK + 1) << 8


cdef inline void note_left(
    Judgement *judged, const Bound *rule, int64_t place, uint64_t left, int64_t reset
) noexcept nogil:
    """Note the rule if it is tighter than all before it."""
    cdef Tight *tight = &judged.tight[rule.unit]
    if not rule.soft and rule.kind != CONCURRENT and (tight.place < 0 or left < tight.left):
        tight[0] = Tight(place, left, reset)


cdef inline void note_refused(
    Judgement *judged, const Bound *rule, int64_t place, int64_t wait, uint64_t used, uint64_t left, int64_t reset
) noexcept nogil:
    """Make the rule the refusing one."""
    cdef int unit
    judged.refused, judged.wait, judged.used, judged.soft = place, wait, used, 0
    for unit in range(3):
        judged.tight[unit] = Tight(-1, 0, 0)
    if rule.kind != CONCURRENT:
        judged.tight[rule.unit] = Tight(place, left, reset)


cdef inline bint take_rate(
    const Ground *ground, uint64_t *charge, const Bound *rule, int64_t place, uint64_t units, uint64_t now,
    Judgement *judged
) noexcept nogil:
    cdef uint64_t level = 0, need = fgw_product(units, rule.interval, rule.cap)
    cdef uint64_t status = next_status(charge)
    if not charge_rate(pair_of(ground, rule.slot), rule.cap, need, now, &level):
        if not rule.soft:
            note_refused(
                judged, rule, place,
                <int64_t> (level + need - rule.cap) if need <= rule.cap else 0x7FFFFFFFFFFFFFFF,
                (level + rule.interval - 1) // rule.interval,
                (rule.cap - level) // rule.interval if level < rule.cap else 0, level,
            )
            return False
        judged.soft |= <uint64_t> 1 << place
        units = 0
    write_charge(charge, rule, units, 0)
    fgw_store(charge + STATUS, status | APPLIED)
    note_left(judged, rule, place, (rule.cap - level) // rule.interval if level < rule.cap else 0, level)
    return True


cdef inline bint take_pair(
    const Ground *ground, const Place *at, const Bound *rule, int64_t place, uint64_t amount, uint64_t window,
    Judgement *judged
) noexcept nogil:
    cdef uint64_t *pair = pair_of(ground, rule.slot)
    cdef uint64_t *charge = at.charge
    cdef uint64_t old[2]
    cdef uint64_t used, after, stored, status = next_status(charge)
    cdef bint intended = False
    while True:
        fgw_load_pair(pair, old)
        help_writer(ground, rule.slot, old[1])
        stored, used = old[1] >> WINDOW_SHIFT, least(old[0], most())
        if stored != window and stored != window + 1:
            stored, used = window, 0
        after = least(used + amount, most())
        if used + amount > rule.limit and not rule.soft:
            if intended:
                mark(charge, DONE)
            note_refused(judged, rule, place, 0 if rule.kind == CONCURRENT else -1, used,
                         rule.limit - used if used < rule.limit else 0, -1)
            return False
        write_charge(charge, rule, amount, stored)
        if not intended:
            fgw_store(charge + STATUS, status | (INTENDED if amount else APPLIED))
            intended = True
        if not amount or fgw_swap_pair(pair, old, after, tag_of(at, 0)):
            break
    mark(charge, APPLIED)
    if used + amount > rule.limit:
        judged.soft |= <uint64_t> 1 << place
    note_left(judged, rule, place, rule.limit - after if after < rule.limit else 0, -1)
    return True


cdef inline void settle_rate(const Ground *ground, uint64_t *charge, uint64_t units, uint64_t now) noexcept nogil:
    cdef uint64_t *word = pair_of(ground, slot_of(charge))
    cdef uint64_t cap = charge[BOUND], interval = charge[FIGURE], amount = charge[AMOUNT]
    if units > amount:
        overcharge_rate(word, cap, fgw_product(units - amount, interval, cap), now)
    elif units < amount:
        discharge_rate(word, cap, fgw_product(amount - units, interval, cap), now)
    mark(charge, DONE)


cdef inline uint64_t finish(const Ground *ground, const Place *at, uint64_t target) noexcept nogil:
    """Bring a charge to ``target``, in the window it was charged in; by how much that went beyond the limit."""
    cdef uint64_t *charge = at.charge
    cdef uint64_t *pair = pair_of(ground, slot_of(charge))
    cdef uint64_t amount = least(charge[AMOUNT], most()), bound = charge[BOUND], used, after
    cdef uint64_t old[2]
    target = least(target, most())
    if kind_of(charge) == RATE or (state_of(charge) == APPLIED and target == amount):
        mark(charge, DONE)
        return 0
    if state_of(charge) == APPLIED:
        fgw_store(charge + FIGURE, target)
        mark(charge, SETTLING)
    while True:
        fgw_load_pair(pair, old)
        help_writer(ground, slot_of(charge), old[1])
        if old[1] >> WINDOW_SHIFT != (charge[WHAT] >> 40 & WINDOW_MASK):
            mark(charge, DONE)
            return 0
        used = least(old[0], most())
        after = used + target
        after = least(after - amount, most()) if after > amount else 0
        if fgw_swap_pair(pair, old, after, tag_of(at, 1)):
            mark(charge, DONE)
            used = used if used > bound else bound
            return after - used if after > used else 0


cdef inline int resolve(const Ground *ground, const Place *at) noexcept nogil:
    """The state of a dead owner's charge, after a look at whether its last step took effect."""
    cdef uint64_t *charge = at.charge
    cdef int state = state_of(charge)
    cdef bint settling = state == SETTLING
    if slot_of(charge) >= ground.slot_count or at.charge[STATUS] >> 8 > GENERATION_MASK:
        return DONE
    if state != INTENDED and not settling:
        return state
    # The slot first, the status after: who overwrote our tag has marked the charge before.
    if fgw_load(pair_of(ground, slot_of(charge)) + 1) == tag_of(at, settling):
        mark(charge, DONE if settling else APPLIED)
    elif state_of(charge) == INTENDED:
        mark(charge, DONE)
    return state_of(charge)


cdef inline bint take_all(
    const Ground *ground, const Bound *rules, Py_ssize_t count, Py_ssize_t done, uint64_t lane, uint64_t entry,
    uint8_t first, const uint64_t *amounts, const uint64_t *windows, uint64_t now, Judgement *judged
) noexcept nogil:
    """Take at these rules, whose places begin at ``done``; False at the first that refuses."""
    cdef Py_ssize_t i
    cdef Place at
    cdef const Bound *rule
    for i in range(count):
        rule, at = &rules[i], place_of(ground, lane, entry, first + done + i)
        if rule.kind == RATE:
            if not take_rate(ground, at.charge, rule, done + i, amounts[rule.unit], now, judged):
                return False
        elif not take_pair(ground, &at, rule, done + i, 1 if rule.kind == CONCURRENT else amounts[rule.unit],
                           windows[rule.kind], judged):
            return False
    return True


cdef inline void settle_one(
    const Ground *ground, const Place *at, const uint64_t *amounts, uint64_t now, uint64_t *over
) noexcept nogil:
    cdef int unit = unit_of(at.charge)
    cdef uint64_t beyond
    if kind_of(at.charge) == RATE:
        settle_rate(ground, at.charge, amounts[unit], now)
        return
    beyond = finish(ground, at, 0 if kind_of(at.charge) == CONCURRENT else amounts[unit])
    if beyond > over[unit]:
        over[unit] = beyond


cdef inline void recover_one(const Ground *ground, const Place *at, const uint64_t *amounts, bint keep) noexcept nogil:
    """Finish one charge of a dead owner."""
    cdef int state = resolve(ground, at)
    if state == SETTLING:
        finish(ground, at, at.charge[FIGURE])
    elif state == APPLIED and kind_of(at.charge) == CONCURRENT:
        finish(ground, at, 0)
    elif state == APPLIED:
        finish(ground, at, at.charge[AMOUNT] if keep else amounts[unit_of(at.charge)])
