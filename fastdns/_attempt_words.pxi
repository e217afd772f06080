# SPDX-License-Identifier: Apache-2.0
#
# The words of a failed attempt, which `errors` logs. A part of _attempt.
#
# Strategy: CoreDNS's texts are those of Go's net package ("read udp A->B: i/o timeout"), so ours are put together from
# the same pieces. Each attempt writes over the text of the one before, in the question's own bounded field.

cdef const char *reason(int error) noexcept nogil:
    # As Go words them.
    if error == ECONNREFUSED:
        return b"connection refused"
    if error == ECONNRESET:
        return b"connection reset by peer"
    if error == ENETUNREACH:
        return b"network is unreachable"
    if error == EHOSTUNREACH:
        return b"no route to host"
    if error == EADDRNOTAVAIL:
        return b"cannot assign requested address"
    if error == EMFILE:
        return b"too many open files"
    if error == ETIMEDOUT:
        return b"connection timed out"
    if error == ENOBUFS:
        return b"no buffer space available"
    if error == EPERM:
        return b"operation not permitted"
    if error == EPIPE:
        return b"broken pipe"
    return b"input/output error"


cdef void put_text(Question *q, const char *text) noexcept nogil:
    cdef size_t n = strlen(text)
    if n > <size_t>(ERROR_MAX - q.error_len):
        n = ERROR_MAX - q.error_len
    memcpy(q.error + q.error_len, text, n)
    q.error_len += <uint16_t>n


cdef void put_local(Question *q, int fd) noexcept nogil:
    # Our address of a socket, IP:PORT.
    cdef sockaddr_in6 sa
    cdef socklen_t n = sizeof(sa)
    cdef char text[64]
    cdef char digits[6]
    cdef uint32_t port, i = 5
    cdef const void *address
    cdef bint v6
    if fd < 0 or c_getsockname(fd, <sockaddr *>&sa, &n) < 0:
        return
    v6 = sa.sin6_family == AF_INET6
    address = <const void *>&sa.sin6_addr if v6 else <const void *>&(<sockaddr_in *>&sa).sin_addr
    if inet_ntop(sa.sin6_family, address, text, 64) == NULL:
        return
    port = ntohs(sa.sin6_port)
    digits[5] = 0
    while i == 5 or port:
        i -= 1
        digits[i] = <char>(48 + port % 10)
        port //= 10
    if v6:
        put_text(q, b"[")
    put_text(q, text)
    put_text(q, b"]:" if v6 else b":")
    put_text(q, digits + i)


cdef void explain(Question *q, const Upstream *u, const char *what, const char *proto, int fd, const char *why,
                  const char *reason_text) noexcept nogil:
    # "read udp 127.0.0.1:1->127.0.0.1:2: read: connection refused"
    q.error_len = 0
    put_text(q, what)
    put_text(q, proto)
    if fd >= 0:
        put_local(q, fd)
        put_text(q, b"->")
    put_text(q, u.text)
    put_text(q, b": ")
    put_text(q, why)
    put_text(q, reason_text)
