# SPDX-License-Identifier: Apache-2.0
"""The messages of dnstap for protobuf: the schema dnstap.proto (https://dnstap.info; public domain, CC0) as rows.

Strategy: descriptors are built of the rows at import. A module that protoc generates works with protobuf of one series
only; this one has nothing of a compiler in it. Names, numbers and types are those of the schema.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

ENUMS: dict[str, dict[str, int]] = {
    "SocketFamily": {"INET": 1, "INET6": 2},
    "SocketProtocol": {"UDP": 1, "TCP": 2, "DOT": 3, "DOH": 4},
    "Dnstap.Type": {"MESSAGE": 1},
    "Message.Type": {
        "AUTH_QUERY": 1, "AUTH_RESPONSE": 2, "RESOLVER_QUERY": 3, "RESOLVER_RESPONSE": 4, "CLIENT_QUERY": 5,
        "CLIENT_RESPONSE": 6, "FORWARDER_QUERY": 7, "FORWARDER_RESPONSE": 8, "STUB_QUERY": 9, "STUB_RESPONSE": 10,
        "TOOL_QUERY": 11, "TOOL_RESPONSE": 12, "UPDATE_QUERY": 13, "UPDATE_RESPONSE": 14,
    },
}  # fmt: skip
# A type that is none of protobuf's own is one of these two tables.
FIELDS: dict[str, tuple[tuple[int, str, str], ...]] = {
    "Dnstap": (
        (1, "bytes", "identity"),
        (2, "bytes", "version"),
        (3, "bytes", "extra"),
        (15, "Dnstap.Type", "type"),
        (14, "Message", "message"),
    ),
    "Message": (
        (1, "Message.Type", "type"),
        (2, "SocketFamily", "socket_family"),
        (3, "SocketProtocol", "socket_protocol"),
        (4, "bytes", "query_address"),
        (5, "bytes", "response_address"),
        (6, "uint32", "query_port"),
        (7, "uint32", "response_port"),
        (8, "uint64", "query_time_sec"),
        (9, "fixed32", "query_time_nsec"),
        (10, "bytes", "query_message"),
        (11, "bytes", "query_zone"),
        (12, "uint64", "response_time_sec"),
        (13, "fixed32", "response_time_nsec"),
        (14, "bytes", "response_message"),
    ),
}
PACKAGE = "dnstap"


def _described() -> Any:
    own = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="dnstap.proto", package=PACKAGE, syntax="proto2")
    messages = {name: file.message_type.add(name=name) for name in FIELDS}
    for path, values in ENUMS.items():
        outer, _, name = path.rpartition(".")
        enum = messages[outer].enum_type.add(name=name) if outer else file.enum_type.add(name=name)
        for value, number in values.items():
            enum.value.add(name=value, number=number)
    for name, rows in FIELDS.items():
        for number, kind, field in rows:
            # In both messages the one field that may not be missing.
            one = messages[name].field.add(
                name=field, number=number, label=own.LABEL_REQUIRED if field == "type" else own.LABEL_OPTIONAL)
            if kind in ENUMS or kind in FIELDS:
                one.type = own.TYPE_ENUM if kind in ENUMS else own.TYPE_MESSAGE
                one.type_name = f".{PACKAGE}.{kind}"
            else:
                one.type = getattr(own, f"TYPE_{kind.upper()}")
    return file


def _classes() -> dict[str, Any]:
    # A pool of our own: another module of the process may know a dnstap.proto too.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_described())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{name}")) for name in FIELDS}


CLASSES = _classes()
Dnstap, Message = CLASSES["Dnstap"], CLASSES["Message"]
MESSAGE = ENUMS["Dnstap.Type"]["MESSAGE"]
TYPES = ENUMS["Message.Type"]
