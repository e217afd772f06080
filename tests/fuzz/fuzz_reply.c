/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: an upstream's message through scan, strip, encoder and finisher.
 *
 * The first four octets choose limits. Oracles: each name of an accepted message expands; what the encoder writes
 * is accepted, fits, holds the same records (or a leading part of them, with TC), and has the same uncompressed
 * length; without OPT and TSIG after the strip; a finished reply fits its client; under a question of other letters'
 * case the records stay as they are, whether the encoder writes it or pointers are changed.
 */
#include "wire.h"

static uint8_t out[WIRE_OCTETS + 1], again[WIRE_OCTETS + 1], buf[WIRE_OCTETS + 1];

static void same_record(const uint8_t *x, size_t xn, const T(Record) *a,
                        const uint8_t *y, size_t yn, const T(Record) *b)
{
    uint8_t p[256], q[256];
    size_t used;
    int pn = W(wire_name)(x, xn, a->owner, p, &used), qn = W(wire_name)(y, yn, b->owner, q, &used);
    CHECK(pn > 0 && pn == qn && memcmp(p, q, pn) == 0);
    CHECK(a->rtype == b->rtype && a->rclass == b->rclass && a->ttl == b->ttl && a->section == b->section);
    if (W(rdata_shape)(a->rtype) == 0)
        CHECK(a->rdlen == b->rdlen && memcmp(x + a->rdata, y + b->rdata, a->rdlen) == 0);
}

static void check_finish(const uint8_t *data, size_t n, uint32_t ulen, const uint8_t *choice)
{
    static const uint8_t query[] = {0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 'a', 0, 0, 1, 0, 1,
                                    0, 0, 41, 4, 208, 0, 0, 128, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8};
    T(Packet) p;
    T(Finish) f;
    T(Message) m;
    size_t done;
    CHECK(W(wire_admit)(query, choice[2] & 1 ? sizeof query : 19, &p) == (choice[2] & 1 ? 0 : 4));
    memset(&f, 0, sizeof f);
    f.udp = (choice[2] >> 1) & 1;
    f.ipv6 = (choice[2] >> 2) & 1;
    f.has_opt = (choice[2] >> 3) & 1;
    f.set_do = (choice[2] >> 4) & 1;
    f.reserve = choice[3];
    f.limit = W(wire_limit)(&p, f.udp);
    f.ulen = ulen;
    memcpy(again, data, n);
    m.records = records_b;
    done = W(wire_finish)(&p, &f, again, n, WIRE_OCTETS, &m, buf);
    CHECK(done >= 12 && done + f.reserve <= f.limit);
    CHECK(scan_exact(again, done, &m, records_b) == 0);
    CHECK(m.has_opt == (p.has_opt || f.has_opt));
}

/* data[:n] has neither OPT nor TSIG. */
static void check_case(const uint8_t *data, size_t n, const T(Message) *a, const uint8_t *choice)
{
    uint8_t query[300] = {0};
    T(Packet) p;
    T(Message) b, c;
    size_t size = a->question_end, done, more;
    int cut;
    if (a->counts[0] != 1 || size > sizeof query)
        return;
    memcpy(query + 12, data + 12, size - 12);
    query[5] = 1;
    for (size_t i = 12; i + 4 < size; i++)
        if (((query[i] | 0x20) >= 'a' && (query[i] | 0x20) <= 'z') && choice[i & 3] >> (i & 7) & 1)
            query[i] ^= 0x20;
    if (W(wire_admit)(query, size, &p) != 0 || !W(wire_question_matches)(data, n, &p, 0))
        return;
    more = W(wire_reply_to)(data, a, &p, again, WIRE_OCTETS, &cut);
    if (cut)
        return;
    CHECK(scan_exact(again, more, &b, records_b) == 0 && b.n == a->n && b.ulen == a->ulen);
    CHECK(memcmp(again + 12, query + 12, size - 12) == 0);
    for (uint32_t i = 0; i < b.n; i++)
        same_record(data, n, &a->records[i], again, more, &b.records[i]);
    done = W(wire_recase)(data, n, &p, buf, WIRE_OCTETS);
    if (done == 0)
        return;
    CHECK(scan_exact(buf, done, &c, records_b) == 0 && c.n == a->n && c.ulen == a->ulen);
    c.records = records_b;
    CHECK(W(wire_compress)(buf, &c, out, WIRE_OCTETS, &cut) == more && memcmp(out, again, more) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    const uint8_t *choice = data;
    T(Message) a, b;
    uint32_t limit;
    size_t done, more;
    int cut;
    if (n < 4)
        return 0;
    data += 4;
    n -= 4;
    if (scan_exact(data, n, &a, records_a) < 0)
        return 0;
    CHECK(a.end <= n && a.n <= RECORDS && a.ulen >= 12);
    limit = choice[0] << 8 | choice[1];
    done = W(wire_compress)(data, &a, out, limit, &cut);
    CHECK(done <= limit);
    CHECK(done >= 12 || limit < a.question_end);
    if (done) {
        CHECK(scan_exact(out, done, &b, records_b) == 0);
        CHECK(b.end == done && !b.has_opt && b.n <= a.n && (cut || (b.n == a.n && b.ulen == a.ulen)));
        CHECK(!cut || b.flags & 0x0200);
        for (uint32_t i = 0; i < b.n; i++)
            same_record(data, n, &a.records[i], out, done, &b.records[i]);
    }
    done = W(wire_strip_opt)(data, &a, out, WIRE_OCTETS);
    if (done == 0)
        return 0;               /* expanded past 65,535 octets */
    CHECK(scan_exact(out, done, &b, records_b) == 0);
    CHECK(b.end == done && !b.has_opt && !b.has_tsig && b.n == a.n && b.ulen == a.ulen);
    b.records = records_b;
    more = W(wire_compress)(out, &b, again, WIRE_OCTETS, &cut);
    CHECK(cut || more <= b.ulen);
    check_finish(out, done, b.ulen, choice);
    if (!a.has_opt && !a.has_tsig)
        check_case(data, a.end, &a, choice);
    return 0;
}
