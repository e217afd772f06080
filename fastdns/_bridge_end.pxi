# SPDX-License-Identifier: Apache-2.0
#
# How a query's stay in Python ends: result, error, panic, nonsense - one FINISH for each, never two.
#
# Strategy: `end_with` takes what serve_dns returned, `end_with_error` what it raised; both end in a FINISH record,
# which gives the query back to the loop. From then on no view may point into it: `alone` says that nobody has one,
# otherwise its octets are copied first. A panic is logged as CoreDNS logs it, with the place where it happened.

cdef int end_with_error(Bridge bridge, _Request request, error) except -1:
    # CoreDNS's error return, or a panic.
    if request.done:
        return 0
    if isinstance(error, PluginError):
        send_verdict(bridge, request, RCODE, error.rcode & 4095, str(error.text).encode()[:160], False)
        return 0
    if not isinstance(error, _Panicked):
        stat_add(bridge.row, bridge.slot_panics, 1)
        complain(bridge, request, error)
    send_verdict(bridge, request, PANIC, RCODE_SERVFAIL, b"", False)
    return 0


cdef int complain(Bridge bridge, _Request request, error) except -1:
    cdef uint16_t listener = request.q.listener
    cdef _PythonStage stage = request.stages[request.q.pos]
    server = bridge.servers[listener] if listener < len(bridge.servers) else ""
    if isinstance(error, _Left):
        error = error.__cause__
    last = None
    trace = error.__traceback__
    while trace is not None:
        last = trace
        trace = trace.tb_next
    where = ""
    if last is not None:
        where = f" ({os.path.basename(last.tb_frame.f_code.co_filename)}:{last.tb_lineno})"
    try:
        cause = f"{type(error).__name__}: {error}"
    except Exception:
        cause = type(error).__name__
    text = f'Recovered from panic in server: "{server}" plugin/{stage.name}: {cause}{where}'
    try:
        if bridge.fatal is not None:
            trace = "".join(traceback.format_exception(error)).rstrip()
            if bridge.fatal(listener, f'Panic in server: "{server}" plugin/{stage.name}: {cause}{where}\n{trace}'):
                return 0
        if _wants_traceback(stage.plugin):
            text += "\n" + "".join(traceback.format_tb(error.__traceback__)).rstrip()
        bridge.log(LEVEL_ERROR, text)
    except Exception:
        # A log that fails must not cost the query its answer.
        return 0
    return 0


cdef int end_with(Bridge bridge, _Request request, result, bint alone) except -1:
    cdef Reply reply
    if request.done:
        return 0
    if type(result) is not Reply and is_message(result):
        try:
            result = Reply(result)
        except BaseException as error:
            end_with_error(bridge, request, error)
            return 0
    if type(result) is Reply:
        reply = result
        if reply.out.bad or reply.out.n < WIRE_HEADER:
            send_verdict(bridge, request, RCODE, RCODE_SERVFAIL, b"the reply does not fit", alone)
        else:
            send_reply(bridge, request, reply, alone)
    elif type(result) is Stream:
        begin_stream(bridge, request, result)
    elif type(result) is Rcode:
        send_verdict(bridge, request, RCODE, (<Rcode>result).rcode, b"", alone)
    elif result is _DROPPED:
        send_verdict(bridge, request, DROP, 0, b"", alone)
    else:
        name = (<_PythonStage>request.stages[request.q.pos]).name
        text = f"plugin/{name}: serve_dns returned {type(result).__name__}, which is no result"
        send_verdict(bridge, request, RCODE, RCODE_SERVFAIL, text.encode()[:160], alone)
    return 0


cdef Down *finish_room(Bridge bridge, _Request request, size_t n) except? NULL:
    # A FINISH record with room for n octets; NULL when the loop has ended.
    cdef Down *d
    cdef uint8_t *block = NULL
    cdef bytes asked = request.asked
    cdef bytes labels = labels_of(request)
    cdef size_t of_asked = 0 if asked is None else len(asked)
    cdef size_t of_labels = 0 if labels is None else len(labels)
    cdef bytes note = request.note
    cdef size_t all = n + of_asked + of_labels + (0 if note is None else len(note))
    request.done = True
    request.coro = None
    bridge.pending.pop(request, None)
    if request.sources is not None:
        for source in request.sources:
            (<_Source>source).close()
        request.sources = None
    if all > BRIDGE_INLINE:
        block = <uint8_t *>malloc(all)
        if block == NULL:
            raise MemoryError
    d = bridge.down_room()
    if d == NULL:
        free(block)
        return NULL
    d.kind = DOWN_FINISH
    d.q = request.q
    d.block = block
    if asked is not None:
        d.outcome.asked_len = <uint16_t>len(asked)
        memcpy((block if block != NULL else d.octets) + n, <const uint8_t *>asked, len(asked))
    if labels is not None:
        d.outcome.labels_len = <uint32_t>len(labels)
        memcpy((block if block != NULL else d.octets) + n + of_asked, <const uint8_t *>labels, of_labels)
    if note is not None:
        d.outcome.note_len = <uint16_t>len(note)
        memcpy((block if block != NULL else d.octets) + n + of_asked + of_labels, <const uint8_t *>note, len(note))
    return d


cdef int finish_publish(Bridge bridge, _Request request, bint alone) except -1:
    if alone:
        request.q = NULL
    else:
        request.freeze()
    bridge.down_publish()
    return 0


cdef int send_verdict(Bridge bridge, _Request request, int verdict, int rcode, bytes text, bint alone) except -1:
    cdef Down *d = finish_room(bridge, request, len(text))
    if d == NULL:
        return 0
    d.outcome.verdict = <uint8_t>verdict
    d.outcome.rcode = <uint16_t>rcode
    d.outcome.error_len = <uint16_t>len(text)
    memcpy(d.block if d.block != NULL else d.octets, <const uint8_t *>text, len(text))
    if request.pump is not None and request.pump.sent:
        d.outcome.streamed = True
        if verdict != REPLY:
            stat_add(bridge.row, bridge.slot_cut, 1)
    request.pump = None
    return finish_publish(bridge, request, alone)


cdef int send_reply(Bridge bridge, _Request request, Reply reply, bint alone) except -1:
    cdef uint32_t options = <uint32_t>len(reply.options) if reply.options is not None else 0
    cdef uint32_t error = <uint32_t>len(reply.error) if reply.error is not None else 0
    cdef Down *d = finish_room(bridge, request, <size_t>reply.out.n + options + error)
    if d == NULL:
        return 0
    write_reply(d, request, reply, options)
    if error:
        memcpy((d.block if d.block != NULL else d.octets) + reply.out.n + options, <const uint8_t *>reply.error,
               error)
    d.outcome.error_len = <uint16_t>error
    return finish_publish(bridge, request, alone)


cdef void write_reply(Down *d, _Request request, Reply reply, uint32_t options) noexcept:
    cdef uint8_t *octets = d.block if d.block != NULL else d.octets
    memcpy(octets, reply.out.p, reply.out.n)
    # A reply answers this query, wherever the plugin took it from.
    put16(octets, request.q.pkt.id)
    octets[2] |= FLAG_QR >> 8
    if options:
        memcpy(octets + reply.out.n, <const uint8_t *>reply.options, options)
    d.outcome.verdict = REPLY
    d.outcome.rcode = reply.rcode
    d.outcome.reply_len = reply.out.n
    d.outcome.ulen = reply.ulen
    d.outcome.has_opt = reply.has_opt
    d.outcome.set_do = reply.set_do
    d.outcome.opt_size = reply.opt_size
    d.outcome.upstream = reply.upstream
    d.outcome.options_len = options
