/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: the shared cache on arbitrary octets in its index, heads and rings.
 *
 * The input is a list of operations: stores, look-ups, removals, refreshes, and octets written anywhere into the shared
 * memory, whole entry headers among them. The rings lie mapped twice between pages that nobody may touch. Oracles: no
 * access out of bounds; what a
 * look-up finds is a message that was stored under that very key. The hash key comes from the input, so that a checksum
 * learnt in one run is worth nothing in the next.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "_cache.c"

#include "check.h"
#include <sys/mman.h>
#include <unistd.h>

#define C(name) __pyx_f_7fastdns_6_cache_##name
#define T(name) struct __pyx_t_7fastdns_6_cache_##name
#define UNITS 2048
#define RING (UNITS * 64)
#define SETS 4
#define SLOTS (SETS * 8)
#define ROWS 2
#define CLAIM_WORDS 16
#define OPERATIONS 24

static T(CacheTable) table;
static T(CacheView) *view;
static uint64_t words[SLOTS], hits[ROWS * SLOTS * 2], claims[CLAIM_WORDS], heads[2], limits[2], pool,
    epoch, row[8];
static uint8_t *rings[2], *wire, message[65535];
static uint16_t offsets[5957];

static uint64_t mixed(uint64_t x)
{
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

/* Stands in for _wire's keyed hash, which is a pointer that the module's import would set. */
static uint64_t name_hash(const uint64_t *key, const uint8_t *data, size_t n)
{
    uint64_t h = key[0];
    for (size_t i = 0; i < n; i++)
        h = mixed(h ^ data[i] ^ key[1]);
    return h;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    size_t guard = 1 << 20;
    __pyx_f_7fastdns_5_wire_wire_siphash13 = name_hash;
    for (int i = 0; i < 2; i++) {
        int fd = memfd_create("ring", 0);
        uint8_t *room = mmap(NULL, 2 * guard + 2 * RING, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        CHECK(ftruncate(fd, RING) == 0 && room != MAP_FAILED);
        for (int half = 0; half < 2; half++)
            CHECK(mmap(room + guard + half * RING, RING, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) !=
                  MAP_FAILED);
        rings[i] = room + guard;
    }
    view = malloc(sizeof *view);
    wire = malloc(65536 + 8);
    return 0;
}

static void reset(const uint8_t *data, size_t n)
{
    uint64_t seed = n;
    for (size_t i = 0; i < n; i++)
        seed = mixed(seed ^ data[i]);
    memset(view, 0, sizeof *view);
    memset(&table, 0, sizeof table);
    memset(words, 0, sizeof words);
    memset(hits, 0, sizeof hits);
    memset(claims, 0, sizeof claims);
    view->seed[0] = mixed(seed);
    view->seed[1] = mixed(seed + 1);
    view->claims = claims;
    view->claim_mask = CLAIM_WORDS - 1;
    view->row = row;
    epoch = 0;
    pool = seed & 1 ? UNITS : 0;
    table.words = words;
    table.epoch = &epoch;
    table.hits = hits;
    table.hit_rows = ROWS;
    table.sets = SETS;
    table.slots = SLOTS;
    table.id = 1;
    table.limit[0] = table.limit[1] = 6;
    for (int i = 0; i < 2; i++) {
        heads[i] = (uint64_t)1 << 32;
        limits[i] = UNITS / 4;
        table.ring[i].map = rings[i];
        table.ring[i].head = &heads[i];
        table.ring[i].limit = &limits[i];
        table.ring[i].pool = &pool;
        table.ring[i].least = UNITS / 4;
        table.ring[i].units = UNITS;
        table.ring[i].chunk = UNITS / 32;
    }
}

/* A key by number, its name in name[256]. */
static void make_key(T(CacheKey) *k, uint8_t *name, uint8_t number)
{
    memset(k, 0, sizeof *k);
    k->name_len = number & 16 ? 240 + number % 16 : 1 + number % 16;
    memset(name, 'a' + number % 16, k->name_len);
    name[k->name_len - 1] = 0;
    k->block = 1;
    k->qtype = number & 32 ? 28 : 1;
    k->qclass = 1;
    k->do_bit = (number >> 6) & 1;
    k->aside = (number >> 7) & 1;
    k->name = name;
    k->hash = C(cache_hash)(view, k);
}

static uint8_t octet(uint8_t number, uint16_t length, uint32_t at)
{
    return (uint8_t)(number * 31 + length * 7 + at * (at < 4 ? 1 : 13));
}

static void put(uint8_t number, int kind, uint16_t length, uint16_t ttls)
{
    T(CacheKey) k;
    T(CacheEntry) e;
    uint8_t name[256];
    int evicted;
    make_key(&k, name, number);
    memset(&e, 0, sizeof e);
    for (uint32_t i = 0; i < length; i++)
        message[i] = octet(number, length, i);
    for (uint32_t i = 0; i < ttls % 5958; i++)
        offsets[i] = (uint16_t)(i * 11 + number);
    e.kind = kind;
    e.wire = message;
    e.wire_len = length;
    e.ttls = ttls % 5958;
    e.ttl_off = offsets;
    e.stored_at = 5;
    C(cache_put)(view, &table, &k, &e, 5, epoch, &evicted);
    CHECK(evicted >= 0 && evicted <= 2);
}

static void get(uint8_t number, int kind)
{
    T(CacheKey) k;
    T(CacheEntry) e;
    uint8_t name[256];
    make_key(&k, name, number);
    if (!C(cache_get)(view, &table, &k, kind, &e, wire))
        return;
    CHECK(e.kind == kind && e.slot < SLOTS && e.ttls < 5958 && e.wire_len >= 12);
    for (uint32_t i = 0; i < e.wire_len; i++)
        CHECK(wire[i] == octet(number, e.wire_len, i));
    for (uint32_t i = 0; i < e.ttls; i++)
        CHECK(e.ttl_off[i] == (uint16_t)(i * 11 + number));
    C(cache_note_hit)(&table, &e, number, 100, 10);
    C(cache_sum_hits)(&table, &e, 100, 10);
    C(cache_promote)(view, &table, &e);
}

/* An index word of this key, and at the unit it leads to a header that looks like the key's, with lengths to choose. */
static void forge(uint8_t number, const uint8_t *from, uint64_t lengths)
{
    T(CacheKey) k;
    uint8_t name[256];
    uint32_t unit = (from[0] | from[1] << 8) % UNITS;
    int ring = from[2] & 1, kind = (from[2] >> 1) & 1;
    uint64_t position = (heads[ring] & ~(uint64_t)0xffffffff) | unit, *h = (uint64_t *)(rings[ring] + unit * 64);
    make_key(&k, name, number);
    if (position >= heads[ring])
        position -= (uint64_t)1 << 32;
    h[0] = position;
    h[1] = lengths * position;
    h[3] = 1;
    h[4] = 0;
    h[5] = k.qtype | (uint64_t)k.qclass << 16;
    h[6] = (lengths & 0xffffffff) | (uint64_t)k.name_len << 32 | (uint64_t)kind << 40 | (uint64_t)k.do_bit << 41 |
           (uint64_t)k.aside << 43;
    C(set_of)(&table, k.hash)[from[2] >> 5] = C(word_of)(position, ring, kind, k.hash);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    uint64_t value;
    if (n > 16 * OPERATIONS)
        n = 16 * OPERATIONS;
    reset(data, n);
    for (size_t i = 0; i + 16 <= n; i += 16) {
        const uint8_t *op = data + i;
        memcpy(&value, op + 8, 8);
        switch (op[0] % 9) {
        case 0:
        case 1:
            put(op[1], op[2] & 1, (uint16_t)(op[3] != 255 ? value & 255 : value), op[4] != 255 ? op[4] & 7 : op[5] << 5);
            break;
        case 2:
        case 3:
            get(op[1], op[2] & 1);
            break;
        case 4:
            memcpy(rings[op[1] & 1] + (value >> 32) % (RING - 8), op + 2, 6);
            break;
        case 5:
            words[op[1] % SLOTS] = value;
            break;
        case 6:
            heads[op[1] & 1] = op[2] & 1 ? value : heads[op[1] & 1] + (value & 0x1ffffffff);
            if (op[2] & 2)
                limits[op[1] & 1] = value >> 16;
            if (op[2] & 4)
                pool = value;
            break;
        case 7:
            forge(op[1], op + 2, value);
            get(op[1], (op[4] >> 1) & 1);
            break;
        default: {
            T(CacheKey) k;
            uint8_t name[256];
            make_key(&k, name, op[1]);
            C(cache_drop)(view, &table, &k, op[2] & 1);
            C(cache_claim)(view, value, op[3], op[4] * 1000000ull);
            C(cache_claim_until)(view, value, op[5]);
            claims[op[6] % CLAIM_WORDS] ^= value;
            epoch += op[7] & 1;
        }
        }
    }
    for (int number = 0; number < 8; number++)
        get((uint8_t)number, number & 1);
    return 0;
}
