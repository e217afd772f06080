/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target: a client's message through admission, error reply, names, hash and finisher.
 *
 * Oracles: an error reply is never longer than the query; folding and the presentation form round-trip; what the
 * finisher writes is a well-formed reply with exactly one OPT if the query had one, inside the client's limit.
 */
#include "wire.h"

static uint8_t reply[WIRE_OCTETS + 1], buf[WIRE_OCTETS + 1];

static void check_name(const T(Packet) *p)
{
    static const uint64_t key[2] = {0x0706050403020100ULL, 0x0f0e0d0c0b0a0908ULL};
    uint8_t back[256], folded[256];
    char text[1024];
    size_t n = W(wire_name_text)(p->qname, p->qname_len, text, sizeof text);
    CHECK(n > 0 && n <= 1021 && text[n] == 0);
    CHECK(W(wire_name_from_text)(text, n, back) == p->qname_len);
    CHECK(memcmp(back, p->qname, p->qname_len) == 0);
    memcpy(folded, p->wire + 12, p->qname_len);
    W(wire_lower)(folded, p->qname_len);
    CHECK(memcmp(folded, p->qname, p->qname_len) == 0);
    CHECK(W(wire_siphash13)(key, folded, p->qname_len) == W(wire_siphash13)(key, p->qname, p->qname_len));
    CHECK(W(wire_name_under)(p->qname, p->qname_len, p->qname + p->qname_len - 1, 1));
    CHECK(W(wire_name_under)(p->qname, p->qname_len, p->qname, p->qname_len));
}

static void check_finish(const T(Packet) *p, int udp)
{
    T(Finish) f;
    T(Message) m;
    T(Writer) w;
    size_t n;
    memset(&f, 0, sizeof f);
    f.udp = udp;
    f.ipv6 = p->id & 1;
    f.limit = W(wire_limit)(p, udp);
    f.rcode = (p->id >> 1) & 31;
    W(writer_reply)(&w, p, reply, WIRE_OCTETS, 0x0480, f.rcode);
    for (int i = 0; i < (p->id >> 8) && !w.bad; i++)
        W(writer_rr)(&w, i < 100 ? 0 : 2, i & 1 ? p->qname : NULL, p->qname_len, 16, 1, 300, p->qname, p->qname_len);
    CHECK(w.n >= 12 && w.n <= WIRE_OCTETS);     /* a record that does not fit leaves the ones before */
    f.ulen = w.n;
    m.records = records_a;
    n = W(wire_finish)(p, &f, reply, w.n, WIRE_OCTETS, &m, buf);
    if (f.rcode > 15 && !p->has_opt) {
        CHECK(n == 0);
        return;
    }
    CHECK(n >= 12 && n <= f.limit);
    CHECK(scan_exact(reply, n, &m, records_a) == 0);
    CHECK(m.end == n && m.has_opt == p->has_opt && m.rcode == f.rcode && m.id == p->id);
    CHECK(W(wire_question_matches)(reply, n, p, 1));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    T(Packet) p;
    int verdict = W(wire_admit)(data, n, &p);
    size_t out;
    if (verdict == 1 || verdict == 2) {
        CHECK(n < 12 || n > WIRE_OCTETS || data[2] & 0x80);
        return 0;
    }
    out = W(wire_error)(&p, verdict, reply, sizeof reply);
    CHECK(verdict == 0 ? out == 0 : out >= 12 && out <= n);
    if (p.qname_len)
        check_name(&p);
    if (verdict == 0 || verdict == 5) {
        CHECK(p.qname_len && p.end <= n);
        check_finish(&p, 0);
        check_finish(&p, 1);
    }
    return 0;
}
