# SPDX-License-Identifier: Apache-2.0
#
# The compiled forward stage: policy, attempts, answers.

from fastdns._inflight cimport Config, Suffix

cdef class StanzaConfig:
    # Owns a stanza's configuration.
    cdef Config config
    cdef object keep
    cdef int suffix(self, Suffix *out, bytes name) except -1
