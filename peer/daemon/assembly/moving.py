"""What moves bytes put together, up to what answers other pservers."""

from __future__ import annotations

from common import channels
from daemon.assembly.ground import Bounds, Ground
from daemon.assembly.holdings import Holdings
from daemon.assembly.membership import Membership
from daemon.peers.client import PeerClient
from daemon.rpc.transfer_service import TransferService
from daemon.transfer.batch_download import BatchDownloader
from daemon.transfer.batch_push import BatchPusher
from daemon.transfer.batch_serve import BatchReceiver, BatchServer
from daemon.transfer.batch_store import BatchStore
from daemon.transfer.file_download import FileDownloader
from daemon.transfer.manifest_fetch import ManifestFetcher
from daemon.transfer.push import Pusher
from daemon.transfer.push_receiver import PushReceiver


class Moving:
    """What moves bytes: from others and to others, as they ask or as we do."""

    def __init__(self, ground: Ground, bounds: Bounds, holdings: Holdings, membership: Membership) -> None:
        threads, clock, metrics = ground.threads, ground.clock, ground.metrics
        library, sharing, keeping = holdings.library, holdings.sharing, holdings.keeping
        account, announcer = membership.account, membership.announcer
        store = BatchStore(holdings.folder, holdings.temporaries, library)
        # As this peer's own user orders.
        self.peers = peers = PeerClient(channels.channel_credentials(ground.settings.tls_ca))
        self.manifests = ManifestFetcher(
            network=membership.network, parts=holdings.parts, peers=peers, threads=threads, clock=clock
        )
        self.fetcher = FileDownloader(
            threads=threads,
            parts=holdings.parts,
            library=library,
            served=sharing,
            budget=bounds.budget,
            bandwidth=bounds.download,
            clock=clock,
            announce_soon=announcer.request_sync,
            metrics=metrics,
        )
        self.small_fetcher = BatchDownloader(
            peers=peers, store=store, threads=threads, bandwidth=bounds.download, clock=clock, metrics=metrics
        )
        self.pusher = Pusher(peers=peers, threads=threads, bandwidth=bounds.upload)
        self.small_pusher = BatchPusher(peers=peers, served=sharing, threads=threads, bandwidth=bounds.upload)
        # As others ask.
        self.receiver = PushReceiver(
            library=library,
            claims=holdings.claims,
            threads=threads,
            downloader=self.fetcher,
            quota=keeping,
            jobs=ground.jobs,
            locks=bounds.locks,
            announce=announcer.try_sync,
        )
        small_server = BatchServer(
            served=sharing,
            threads=threads,
            bandwidth=bounds.upload,
            check_ticket=account.check_ticket,
            library=library,
        )
        small_receiver = BatchReceiver(
            receiver=self.receiver,
            quota=keeping,
            store=store,
            threads=threads,
            check_ticket=account.check_ticket,
            announce=announcer.try_sync,
        )
        self.transfer_service = TransferService(
            sources=sharing,
            push_receiver=self.receiver,
            batch_server=small_server,
            batch_receiver=small_receiver,
            threads=threads,
            stream_slots=bounds.slots,
            manifest_slots=bounds.manifest_slots,
            active_streams=bounds.streams,
            upload_limiter=bounds.upload,
            transfers=ground.jobs,
            on_sent=bounds.sent,
        )
