# SPDX-License-Identifier: Apache-2.0
# cython: language_level=3
"""Forwarding's tables: questions in flight, the ids they are listened for under, their timers.

Strategy: everything has a fixed number of slots in memory that is touched only as far as it was ever used, so the
busiest path allocates nothing and a flood fills tables, not memory. Two hash tables with chains lead to a question:
by what it asks (keyed: a client chooses those octets) and by (socket, id) of an ask (the ids are random, and
ours). Timers are a wheel of lists: setting and clearing cost the same however many there are; a timer runs out at most
one tick late, never early.
"""

from libc.stdint cimport uint16_t, uint32_t, uint64_t

from fastdns._stage cimport Worker
from fastdns._sys cimport (
    MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, free, malloc, mmap, munmap,
)


cdef int inflight_open(Worker *w, Forward *f) noexcept nogil:
    """Allocates the tables; -1 when there is no memory. `f` is zeroed."""
    cdef size_t questions = QUESTIONS * sizeof(Question)
    cdef size_t sockets = SOCKETS * sizeof(Socket)
    f.questions = <Question *>mmap(NULL, questions, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    f.sockets = <Socket *>mmap(NULL, sockets, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    if f.questions == <Question *>-1 or f.sockets == <Socket *>-1:
        return -1
    f.free_question = f.free_socket = f.free_conn = f.reading = NONE
    f.key[0] = w.api.random(w)
    f.key[1] = w.api.random(w)
    f.wheel_at = w.now_ns >> TICK
    f.next_ns = <uint64_t>-1
    return 0


cdef void inflight_close(Forward *f) noexcept nogil:
    """Gives the tables back. Queries that still wait in them belong to the loop's pool."""
    cdef uint32_t i
    for i in range(f.used_questions):
        free(f.questions[i].large)
    munmap(f.questions, QUESTIONS * sizeof(Question))
    munmap(f.sockets, SOCKETS * sizeof(Socket))


# ---------------------------------------------------------------------------------------------- questions

cdef uint32_t question_take(Forward *f, uint32_t n) noexcept nogil:
    """A slot for a message of n octets; NONE when the table, or the memory of long messages, is full."""
    cdef uint32_t i, k
    cdef Question *q
    cdef uint8_t *large = NULL
    if f.free_question == NONE and f.used_questions == QUESTIONS:
        return NONE
    if n > INLINE:
        if f.large_octets + n > LARGE_OCTETS:
            return NONE
        large = <uint8_t *>malloc(n + 2)
        if large == NULL:
            return NONE
        f.large_octets += n
    if f.free_question != NONE:
        i = f.free_question
        f.free_question = f.questions[i].same_next
    else:
        i = f.used_questions
        f.used_questions += 1
    q = &f.questions[i]
    q.len = n
    q.large = large
    q.timer_slot = OFF
    q.conn = NONE
    q.queued = False
    for k in range(ASKS):
        q.asks[k].socket = NONE
    f.in_flight += 1
    return i


cdef void question_release(Forward *f, uint32_t i) noexcept nogil:
    """Gives a slot back. Its asks, timer and place in the coalescing table are gone before."""
    cdef Question *q = &f.questions[i]
    if q.large != NULL:
        free(q.large)
        q.large = NULL
        f.large_octets -= q.len
    q.first = q.last = NULL
    q.same_next = f.free_question
    f.free_question = i
    f.in_flight -= 1


cdef void same_insert(Forward *f, uint32_t i) noexcept nogil:
    cdef uint32_t cell = <uint32_t>f.questions[i].hash & (BUCKETS - 1)
    f.questions[i].same_next = f.same[cell]
    f.same[cell] = i + 1


cdef void same_remove(Forward *f, uint32_t i) noexcept nogil:
    cdef uint32_t *at = &f.same[<uint32_t>f.questions[i].hash & (BUCKETS - 1)]
    while at[0] != i + 1:
        at = &f.questions[at[0] - 1].same_next
    at[0] = f.questions[i].same_next


# ---------------------------------------------------------------------------------------------- asks

cdef inline uint32_t id_cell(uint32_t socket, uint16_t id) noexcept nogil:
    return (((socket << 16) | id) * 0x9e3779b1u) >> 17


cdef uint32_t ask_find(const Forward *f, uint32_t socket, uint16_t id) noexcept nogil:
    """The entry (question * ASKS + ask) that listens on a socket under an id, or NONE."""
    cdef uint32_t entry = f.ids[id_cell(socket, id)]
    cdef const Ask *a
    while entry:
        a = &f.questions[(entry - 1) // ASKS].asks[(entry - 1) % ASKS]
        if a.id == id and a.socket == socket:
            return entry - 1
        entry = a.id_next
    return NONE


cdef void ask_insert(Forward *f, uint32_t entry) noexcept nogil:
    """Listens: the ask's socket and id are set."""
    cdef Ask *a = &f.questions[entry // ASKS].asks[entry % ASKS]
    cdef Socket *s = &f.sockets[a.socket]
    cdef uint32_t cell = id_cell(a.socket, a.id)
    a.id_next = f.ids[cell]
    f.ids[cell] = entry + 1
    a.prev = NONE
    a.next = s.asks
    if s.asks != NONE:
        f.questions[s.asks // ASKS].asks[s.asks % ASKS].prev = entry
    s.asks = entry
    s.pending += 1


cdef void ask_remove(Forward *f, uint32_t entry) noexcept nogil:
    """Listens no more."""
    cdef Ask *a = &f.questions[entry // ASKS].asks[entry % ASKS]
    cdef Socket *s = &f.sockets[a.socket]
    cdef uint32_t *at = &f.ids[id_cell(a.socket, a.id)]
    while at[0] != entry + 1:
        at = &f.questions[(at[0] - 1) // ASKS].asks[(at[0] - 1) % ASKS].id_next
    at[0] = a.id_next
    if a.prev != NONE:
        f.questions[a.prev // ASKS].asks[a.prev % ASKS].next = a.next
    else:
        s.asks = a.next
    if a.next != NONE:
        f.questions[a.next // ASKS].asks[a.next % ASKS].prev = a.prev
    s.pending -= 1
    a.socket = NONE


# ---------------------------------------------------------------------------------------------- timers

cdef void link_timer(Forward *f, uint32_t i, uint32_t *head, uint16_t slot) noexcept nogil:
    cdef Question *q = &f.questions[i]
    q.timer_slot = slot
    q.timer_prev = 0
    q.timer_next = head[0]
    if head[0]:
        f.questions[head[0] - 1].timer_prev = i + 1
    head[0] = i + 1
    f.timers += 1


cdef void timer_set(Worker *w, Forward *f, uint32_t i, uint64_t when_ns) noexcept nogil:
    """Sets a question's only timer, anew if it runs."""
    cdef Question *q = &f.questions[i]
    cdef uint64_t tick
    cdef uint16_t slot
    timer_clear(f, i)
    q.due_ns = when_ns
    if when_ns <= w.now_ns:
        link_timer(f, i, &f.due, DUE)
        return
    if f.timers == 0:
        f.wheel_at = w.now_ns >> TICK
    tick = (when_ns >> TICK) + 1
    if tick <= f.wheel_at:
        tick = f.wheel_at + 1
    elif tick - f.wheel_at >= SLOTS:
        tick = f.wheel_at + SLOTS - 1
    slot = <uint16_t>(tick & (SLOTS - 1))
    link_timer(f, i, &f.slots[slot], slot)
    f.slot_map[slot >> 6] |= <uint64_t>1 << (slot & 63)
    if tick << TICK < f.next_ns:
        f.next_ns = tick << TICK


cdef void timer_clear(Forward *f, uint32_t i) noexcept nogil:
    cdef Question *q = &f.questions[i]
    cdef uint32_t *head
    if q.timer_slot == OFF:
        return
    head = &f.due if q.timer_slot == DUE else &f.slots[q.timer_slot]
    if q.timer_prev:
        f.questions[q.timer_prev - 1].timer_next = q.timer_next
    else:
        head[0] = q.timer_next
    if q.timer_next:
        f.questions[q.timer_next - 1].timer_prev = q.timer_prev
    if head[0] == 0 and q.timer_slot != DUE:
        f.slot_map[q.timer_slot >> 6] &= ~(<uint64_t>1 << (q.timer_slot & 63))
    q.timer_slot = OFF
    f.timers -= 1


cdef uint64_t next_tick(const Forward *f) noexcept nogil:
    # The next tick with a timer, looked for by words of the map; 0: none.
    cdef uint64_t tick = f.wheel_at + 1
    cdef uint64_t last = f.wheel_at + SLOTS
    cdef uint64_t word
    while tick < last:
        word = f.slot_map[(tick & (SLOTS - 1)) >> 6] >> (tick & 63)
        if word:
            while not word & 1:
                word >>= 1
                tick += 1
            return tick
        tick = (tick | 63) + 1
    return 0


cdef void run_list(Worker *w, Forward *f, uint32_t *head, uint64_t before, fire_fn fire) noexcept nogil:
    # Fires the timers of a list that were due before a moment. Those that firing sets join this list's head with a
    # later moment or the due list: each is looked at once.
    cdef uint32_t n = 0
    cdef uint32_t at = head[0]
    cdef uint32_t i, k
    while at:
        f.scratch[n] = at - 1
        n += 1
        at = f.questions[at - 1].timer_next
    for k in range(n):
        i = f.scratch[n - 1 - k]
        if f.questions[i].timer_slot == OFF or f.questions[i].due_ns > before:
            continue
        timer_clear(f, i)
        fire(w, f, i)


cdef void timers_run(Worker *w, Forward *f, fire_fn fire) noexcept nogil:
    """Fires what is due at w.now_ns."""
    cdef uint64_t now = w.now_ns >> TICK
    cdef uint64_t tick
    cdef uint32_t at, i
    cdef uint16_t slot
    if f.due:
        run_list(w, f, &f.due, w.now_ns, fire)
    if w.now_ns < f.next_ns:
        return
    tick = f.wheel_at + 1
    if now > f.wheel_at + SLOTS:
        tick = now - SLOTS + 1
    f.wheel_at = now
    while tick <= now:
        slot = <uint16_t>(tick & (SLOTS - 1))
        if f.slots[slot]:
            run_list(w, f, &f.slots[slot], w.now_ns, fire)
            # What is left lies beyond the wheel's horizon: set it again.
            at = f.slots[slot]
            while at:
                i = at - 1
                at = f.questions[i].timer_next
                timer_set(w, f, i, f.questions[i].due_ns)
        tick += 1
    tick = next_tick(f)
    f.next_ns = tick << TICK if tick else <uint64_t>-1
