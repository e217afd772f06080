/* SPDX-License-Identifier: Apache-2.0
 *
 * C11 atomics for the words that processes share.
 *
 * Strategy: Cython can neither spell an atomic type nor keep the compiler from moving a plain
 * store, so every shared word is touched through one of these functions and nowhere else.
 * Words are naturally aligned 32- or 64-bit integers in a shared mapping. The suffix names the
 * memory order; there is no default. */
#ifndef FASTDNS_ATOMIC_H
#define FASTDNS_ATOMIC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

static inline uint64_t fd_load_relaxed(const uint64_t *p) {
    return atomic_load_explicit((const _Atomic uint64_t *)p, memory_order_relaxed);
}
static inline uint64_t fd_load_acquire(const uint64_t *p) {
    return atomic_load_explicit((const _Atomic uint64_t *)p, memory_order_acquire);
}
static inline void fd_store_relaxed(uint64_t *p, uint64_t v) {
    atomic_store_explicit((_Atomic uint64_t *)p, v, memory_order_relaxed);
}
static inline void fd_store_release(uint64_t *p, uint64_t v) {
    atomic_store_explicit((_Atomic uint64_t *)p, v, memory_order_release);
}
static inline uint64_t fd_add_relaxed(uint64_t *p, uint64_t v) {
    return atomic_fetch_add_explicit((_Atomic uint64_t *)p, v, memory_order_relaxed);
}
static inline uint64_t fd_add_acq_rel(uint64_t *p, uint64_t v) {
    return atomic_fetch_add_explicit((_Atomic uint64_t *)p, v, memory_order_acq_rel);
}
/* Returns whether *p held expected and now holds desired. */
static inline bool fd_cas(uint64_t *p, uint64_t expected, uint64_t desired) {
    return atomic_compare_exchange_strong_explicit((_Atomic uint64_t *)p, &expected, desired,
                                                   memory_order_acq_rel, memory_order_acquire);
}
static inline uint32_t fd_load_acquire32(const uint32_t *p) {
    return atomic_load_explicit((const _Atomic uint32_t *)p, memory_order_acquire);
}
static inline uint32_t fd_load_relaxed32(const uint32_t *p) {
    return atomic_load_explicit((const _Atomic uint32_t *)p, memory_order_relaxed);
}
static inline void fd_store_release32(uint32_t *p, uint32_t v) {
    atomic_store_explicit((_Atomic uint32_t *)p, v, memory_order_release);
}
static inline uint32_t fd_swap32(uint32_t *p, uint32_t v) {
    return atomic_exchange_explicit((_Atomic uint32_t *)p, v, memory_order_acq_rel);
}
static inline void fd_fence_acquire(void) { atomic_thread_fence(memory_order_acquire); }
static inline void fd_fence_release(void) { atomic_thread_fence(memory_order_release); }
static inline void fd_fence_seq_cst(void) { atomic_thread_fence(memory_order_seq_cst); }

/* A counter with a single writer and readers in other processes: no locked instruction. */
static inline void fd_bump(uint64_t *p, uint64_t by) {
    fd_store_relaxed(p, fd_load_relaxed(p) + by);
}

#endif
