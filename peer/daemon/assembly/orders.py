"""What the user orders put together, up to what answers the terminal."""

from __future__ import annotations

from collections.abc import Callable

from daemon.assembly.ground import Bounds, Ground
from daemon.assembly.holdings import Holdings
from daemon.assembly.membership import Membership
from daemon.assembly.moving import Moving
from daemon.commands.download import DownloadHandler
from daemon.commands.download_job import DownloadJob
from daemon.commands.export import LocalCopier
from daemon.commands.import_files import Importer
from daemon.commands.local_resolver import LocalResolver
from daemon.commands.remove import RemoveHandler
from daemon.commands.replicate import Replicator
from daemon.commands.resolve import Resolver
from daemon.commands.upload import UploadHandler
from daemon.rpc.control_service import ControlService
from daemon.rpc.status import StatusReporter


class Orders:
    """What this peer's own user orders."""

    def __init__(
        self,
        ground: Ground,
        bounds: Bounds,
        holdings: Holdings,
        membership: Membership,
        moving: Moving,
        url: Callable[[], str],
    ) -> None:
        settings, threads = ground.settings, ground.threads
        folder, library, sharing = holdings.folder, holdings.library, holdings.sharing
        account, announcer, network = membership.account, membership.announcer, membership.network
        delivery = LocalResolver(
            library=library,
            scanner=holdings.scanner,
            copier=LocalCopier(
                sharing=sharing,
                temporaries=holdings.temporaries,
                library=library,
                disk=folder.disk,
                threads=threads,
            ),
            announce=announcer.try_sync,
            threads=threads,
            shared_dir=settings.shared_dir,
        )
        retrieval = DownloadJob(
            tracker=network,
            manifests=moving.manifests,
            peers=moving.peers,
            fetcher=moving.fetcher,
            small_fetcher=moving.small_fetcher,
            locks=bounds.locks,
            prioritise_local=moving.receiver.prioritise_local,
            announce=announcer.try_sync,
            local=delivery,
            clock=ground.clock,
        )
        self.downloads = DownloadHandler(
            account=account,
            resolver=Resolver(network, library),
            local=delivery,
            job=retrieval,
            clock=ground.clock,
        )
        take_in = Importer(
            folder=folder,
            temporaries=holdings.temporaries,
            library=library,
            scanner=holdings.scanner,
            state_dir=settings.state_dir,
        )
        spreader = Replicator(
            tracker=network,
            sharing=sharing,
            pusher=moving.pusher,
            small_pusher=moving.small_pusher,
            threads=threads,
        )
        self.uploads = UploadHandler(
            account=account, announcer=announcer, importer=take_in, replicator=spreader, threads=threads
        )
        self.removal = RemoveHandler(folder=folder, library=library, announcer=announcer, threads=threads)
        self._account, self._network, self._jobs = account, network, ground.jobs
        self._status = StatusReporter(
            settings=settings,
            address=url,
            account=account,
            announcer=announcer,
            library=library,
            scanner=holdings.scanner,
            replica_quota=holdings.keeping,
            transfers=ground.jobs,
            threads=threads,
        )

    def control(self, proof: Callable[[bytes], bytes]) -> ControlService:
        """Return what answers the terminal. `proof` of a nonce shows that this pserver knows the cookie."""
        return ControlService(
            account=self._account,
            network=self._network,
            jobs=self._jobs,
            downloads=self.downloads,
            uploads=self.uploads,
            removal=self.removal,
            own_status=self._status,
            proof=proof,
        )
