# SPDX-License-Identifier: Apache-2.0
"""The plugin class of tsig: the keys, which its listeners verify with, and the stage that acts on what came of it."""

from typing import TYPE_CHECKING

from fastdns.corefile.units import quote
from fastdns.errors import CorefileError
from fastdns.plugin import BlockContext, KeySource, Plugin, Settings, SetupError

from .config import TSIG
from .keys import read_keys
from .metrics import QUERIES, RESULTS

if TYPE_CHECKING:
    from fastdns._stage import CompiledStage

KEYS_MOST = 16384


class Tsig(Plugin, KeySource):
    """Verifies signed queries and signs the replies."""

    name = "tsig"
    directive = TSIG

    def __init__(self, config: Settings, block: BlockContext) -> None:
        super().__init__(config, block)
        self._keys = {key.name: key.secret for key in config["secret"]}
        for file in config["secrets"]:
            self.read(file.path, *file.place)

    def read(self, path: str, file: str, line: int) -> None:
        """Adds the keys of a file. Its path does not depend on `root`, as in CoreDNS."""
        try:
            found = read_keys(path)
            for name in found:
                if name in self._keys:
                    raise ValueError(f"key {quote(name)} redefined")
            if len(self._keys) + len(found) > KEYS_MOST:
                raise ValueError(f"there are more than {KEYS_MOST:,} keys")
        except ValueError as error:
            raise SetupError(self.name, CorefileError(file, line, str(error))) from None
        self._keys.update(found)

    def keys(self) -> dict[str, bytes]:
        return self._keys

    def signed_zones(self) -> tuple[str, ...]:
        zones: tuple[str, ...] = self.config["zones"]
        return () if set(self.block.zones) <= set(zones) else zones

    def compiled(self) -> "CompiledStage":
        from ._tsig import stage

        types, opcodes = self.config["require"], self.config["require_opcode"]
        return stage(
            None if types.all else types.numbers,
            None if opcodes.all else opcodes.numbers,
            self.config["whole_mac"],
            [self.slots(i) for i in range(len(self.block.servers))],
        )

    def slots(self, listener: int) -> list[int]:
        """The counters of one listener. One that the block cannot be reached by has none."""
        if listener not in self.block.listeners:
            return [0] * len(RESULTS)
        server, view = self.block.servers[listener], self.block.view
        return [QUERIES.slot(server, view, result, stats=self.block.stats) for result in RESULTS]
