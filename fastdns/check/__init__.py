# SPDX-License-Identifier: Apache-2.0
"""`fastdns check` and `fastdns explain`: a Corefile read as the server reads it, with nothing done.

Strategy: the server's own parser, grammars and set-up do the work; this package goes on behind a mistake where the
server stops (recovery, grammar), puts each mistake at its column (findings), and keeps everything from acting
(guard). The server imports nothing of it.
"""
