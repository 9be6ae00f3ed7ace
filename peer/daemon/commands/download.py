"""Downloads that this peer's own user orders: what is wanted is resolved, found here, or fetched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common.control_messages import Fault, Phase
from daemon.commands.download_job import DownloadJob
from daemon.commands.download_target import DownloadTarget
from daemon.commands.local_resolver import LocalResolver
from daemon.commands.resolve import Resolver
from daemon.errors import BadUsage
from daemon.models import RemoteFile
from daemon.runtime.transfers import Transfer
from daemon.tracker_client.login import Account


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadHandler:
    """Carries out download orders."""

    account: Account
    resolver: Resolver
    local: LocalResolver
    job: DownloadJob
    clock: Callable[[], float]

    async def run(self, names: Sequence[str], output: str, transfer: Transfer) -> None:
        """Fetch what the arguments mean; tells the transfer a result for each file."""
        self.account.require_login()
        if not names:
            raise BadUsage("name at least one file")
        resolved = await self.resolver.resolve(names)
        several = len(resolved) > 1 or any(name.endswith("/") for name in names)
        order = DownloadTarget.parse(output, transfer, self.clock, multiple=several)
        transfer.counters.files_total = len(resolved)
        await self.local.refresh(order, [item for item in resolved if isinstance(item, RemoteFile)])
        wanted: list[RemoteFile] = []
        for item in resolved:
            if not isinstance(item, RemoteFile):
                transfer.emit(Fault.of(item[1], item[0]))
            elif await self.local.is_wanted(order, item):
                wanted.append(item)
        transfer.start_phase(Phase.MOVING, total=sum(item.version.size for item in wanted))
        await self.job.fetch(order, wanted)
