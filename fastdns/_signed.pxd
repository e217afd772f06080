# SPDX-License-Identifier: Apache-2.0
#
# What signed queries have beside others on their way in and out.

from libc.stddef cimport size_t

from fastdns._stage cimport Query, Worker
from fastdns._wire cimport Finish

cdef int signed_look(Worker *w, Query *q) noexcept nogil
    # Verifies an admitted query with the listener's keys: q.tsig and q.signature. The Admission that follows.
cdef void signed_enter(Query *q) noexcept nogil
    # Whether the block that a query has come to signs the reply. Called where q.tsig is not 0.
cdef size_t signed_finish(Worker *w, Query *q, Finish *f) noexcept nogil
    # wire_finish for a reply that may have to be signed. Octets to send; 0 when the reply cannot be sent.
