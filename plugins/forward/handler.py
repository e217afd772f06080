# SPDX-License-Identifier: Apache-2.0
"""The plugin class of forward: queries are forwarded by compiled code, upstreams are checked by the keeper.

Strategy: an instance is one stanza. Set-up resolves host names, interns every counter and shared word, makes room
for the sockets' descriptors, and hands plain numbers to the compiled stage.
"""

import resource
from typing import TYPE_CHECKING, Any

from fastdns._forward import stage
from fastdns._wire import name_from_text, name_lower
from fastdns.corefile.names import under
from fastdns.plugin import BlockContext, Channel, Forwards, Plugin, SetupError, Way

from .config import FORWARD, POLICIES
from .health import HealthChecks, Target
from .metrics import stanza_slots, upstream_slots
from .upstreams import Upstream, resolve

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

UPSTREAM = "forward/upstream"
DESCRIPTORS_MAX = 1 << 20
DESCRIPTORS_KEPT = 8192  # for clients, listeners and everything else, where there are so many


def wire(name: str) -> bytes:
    """A name in lower-cased wire form."""
    return name_lower(name_from_text(name))


def raise_descriptors() -> int:
    """Raises the soft limit of open files to the hard one; returns how many of them UDP sockets may use."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS_MAX if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_MAX)
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return max(int(soft) - min(DESCRIPTORS_KEPT, int(soft) // 2), 16)


class Forward(Plugin, Forwards):
    """Asks other servers."""

    name = "forward"
    directive = FORWARD
    any_class = True

    @classmethod
    def concerns(cls, config: Any, name: str) -> bool:
        """Names of FROM that no `except` takes out."""
        return under(name, config.origin[1][0]) and not any(under(name, zone) for zone in config.ignored)

    def __init__(self, config: Any, block: BlockContext) -> None:
        super().__init__(config, block)
        try:
            self.upstreams: tuple[Upstream, ...] = resolve(config.upstreams, config.resolver)
        except ValueError as error:
            raise SetupError(self.name, str(error)) from None
        written, zones = config.origin
        self.zone = zones[0]
        if len(zones) > 1:
            self.log.warning(
                "Unsupported CIDR notation: '%s' expands to multiple zones. Using only '%s'.", written, self.zone
            )
        self.descriptors = raise_descriptors()
        self.slots = [upstream_slots(block.stats, block.block_id, block.stanza, one.to) for one in self.upstreams]
        self.checks = HealthChecks(
            block.stats,
            [
                Target(one, int(str(slots["fails"])), int(str(slots["check"])))
                for one, slots in zip(self.upstreams, self.slots, strict=True)
            ],
            interval=config.interval,
            question=wire(config.domain),
            recurse=not config.no_rec,
            tcp=config.force_tcp,
            source=str(config.source_address or ""),
        )

    def compiled(self) -> "CompiledStage":
        config, block = self.config, self.block
        following = None if block.position is None else block.position + 1
        attempts = config.max_connect_attempts
        settings = {
            "zone": wire(self.zone),
            "ignored": [wire(name) for name in config.ignored],
            "upstreams": [
                {"address": one.address, "port": one.port, "to": one.to, **slots}
                for one, slots in zip(self.upstreams, self.slots, strict=True)
            ],
            "policy": POLICIES.index(config.policy),
            "has_next": following is not None and block.chain[following : following + 1] == (self.name,),
            "max_attempts": 2 * len(self.upstreams) if attempts is None else attempts,
            "source": str(config.source_address or ""),
            "failfast": config.failfast_all_unhealthy_upstreams,
            "wake_fd": self.checks.wake_fd,
            "descriptors": self.descriptors,
            "label": block.labels.place(UPSTREAM),
            **{key: config[key] for key in COPIED},
            **stanza_slots(block.stats, block.block_id, block.stanza, config.max_concurrent > 0),
        }
        return stage(settings, block.stats)

    def ways(self) -> list[Way]:
        """For `loop`."""
        tcp, source = bool(self.config.force_tcp), str(self.config.source_address or "")
        return [Way(self.zone, one.to, one.address, one.port, tcp, source, int(str(slots["looped"])))
                for one, slots in zip(self.upstreams, self.slots, strict=True)]

    def start_server(self, channel: Channel) -> None:
        if "loop" not in self.block.chain:
            # It may have been there before a reload.
            for way in self.ways():
                self.block.stats.set_shared(way.looped, 0)
        self.checks.start()

    async def stop_server(self) -> None:
        await self.checks.stop()


COPIED = (
    "force_tcp",
    "prefer_udp",
    "next_on_nodata",
    "max_fails",
    "read_timeout",
    "expire",
    "max_age",
    "max_idle_conns",
    "max_concurrent",
    "limit_text",
    "next",
    "failover",
)
