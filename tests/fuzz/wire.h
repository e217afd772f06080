/* SPDX-License-Identifier: Apache-2.0
 *
 * The compiled code of fastdns/_wire, textually, for libFuzzer targets.
 *
 * Strategy: the free functions of _wire are static C without a Python call, so a target includes the C that
 * Cython generates and calls them by their mangled names; no interpreter is started.
 */
#include "_wire.c"

#include "check.h"

#define W(name) __pyx_f_7fastdns_5_wire_##name
#define T(name) struct __pyx_t_7fastdns_5_wire_##name
#define RECORDS 5957
#define WIRE_OCTETS 65535

static T(Record) records_a[RECORDS], records_b[RECORDS];

/* Scans a copy of exactly n octets, so that a read past the end is seen. */
static int scan_exact(const uint8_t *data, size_t n, T(Message) *m, T(Record) *records)
{
    uint8_t *copy = malloc(n ? n : 1);
    int rc;
    memcpy(copy, data, n);
    m->records = records;
    rc = W(wire_scan)(copy, n, m);
    free(copy);
    return rc;
}
