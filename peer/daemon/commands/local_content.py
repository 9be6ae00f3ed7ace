"""The files of a download command whose content is in the shared folder already, and the results of all its files.

Nothing here uses the network, except to announce a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.control_messages import Downloaded, Fault, Hint, Phase
from daemon.commands.download_target import DownloadTarget
from daemon.commands.resolve import ResolvedFile, Unresolved
from daemon.errors import FileChanged, NoSuchFile, PeerError, TargetExists
from daemon.library.library import Library
from daemon.library.scanner import Scanner
from daemon.models import Version
from daemon.runtime.batches import batched
from daemon.runtime.concurrency import Threads, paced
from daemon.runtime.transfers import Transfer
from daemon.storage.hashing import CancelCheck
from daemon.transfer.batch_store import BATCH_MAX_BYTES, BATCH_MAX_FILES, SMALL_FILE_MAX
from daemon.transfer.file_download import DownloadStats
from daemon.transfer.local_copy import LocalCopier


@dataclass(frozen=True, slots=True)
class DownloadRun:
    """One download command that runs."""

    target: DownloadTarget
    transfer: Transfer
    clock: Callable[[], float]
    started: float
    # By id, the holders that sent it.
    sources: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def name_of(self, item: ResolvedFile) -> str:
        """Return the name that a file gets in the shared folder."""
        return self.target.new_name or item.file.version.name

    def version_of(self, item: ResolvedFile) -> Version:
        """Return the version with the name that the file gets in the shared folder."""
        return item.file.version._replace(name=self.name_of(item))

    def stats(self, holders: tuple[str, ...] = ()) -> DownloadStats:
        """Return the stats of a file that took the time since the command began."""
        return DownloadStats(self.clock() - self.started, holders, resumed_bytes=0)

    def show(self, phase: Phase, item: ResolvedFile) -> None:
        """Show the phase of a file."""
        counters = self.transfer.counters
        counters.phase, counters.name = phase, self.name_of(item)

    def fail(self, item: ResolvedFile, error: PeerError) -> None:
        """Report the error of a file as its result."""
        self.transfer.emit(Fault.of(error, item.file.version.name, item.arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalContent:
    """Uses the content that is here."""

    library: Library
    scanner: Scanner
    copier: LocalCopier
    # Announces what is new in the library, if the tracker can be reached.
    announce: Callable[[], Coroutine[Any, Any, None]]
    threads: Threads
    shared_dir: Path

    async def find_missing(self, run: DownloadRun, resolved: Sequence[ResolvedFile | Unresolved]) -> list[ResolvedFile]:
        """Return the files that must be downloaded. The others, and what means no file, get their results here."""
        await self._refresh(run, [item for item in resolved if isinstance(item, ResolvedFile)])
        missing: list[ResolvedFile] = []
        # Small files whose content is here under another name.
        copies: list[ResolvedFile] = []
        async for item in paced(resolved):
            if not isinstance(item, ResolvedFile):
                run.transfer.emit(Fault.of(item.error, arguments=item.arguments))
            elif await self._is_missing(run, item, copies):
                missing.append(item)
        return missing + await self.copy_small(run, copies)

    async def _refresh(self, run: DownloadRun, items: Sequence[ResolvedFile]) -> None:
        """Update the library for the names that matter: the last scan may be older than a change of their files."""

        def refresh(stop: CancelCheck) -> None:
            names = {run.name_of(item) for item in items}
            # The library may have them in another spelling.
            names.update(local.name for local in map(self.library.by_name, tuple(names)) if local is not None)
            for id_ in {item.file.version.id for item in items}:
                names.update(local.name for local in self.library.by_id(id_))
            self.scanner.index_files(sorted(names), stop=stop)

        if items:
            await self.threads.run_cancellable(self.threads.disk, refresh)

    async def _is_missing(self, run: DownloadRun, item: ResolvedFile, copies: list[ResolvedFile]) -> bool:
        """Return whether a file must be downloaded; otherwise it gets its result here, or is added to `copies`."""
        name, version = run.name_of(item), item.file.version
        try:
            outside = run.target.copy_path_of(name)
            if outside is not None:
                await self.threads.run(
                    self.threads.disk,
                    self.copier.check_target,
                    outside,
                    make_folders=run.target.copy_into_folder,
                )
            # Finds names that differ in case only, too: they are one name at one peer.
            local = self.library.by_name(name)
            if local is not None and local.id != version.id:
                first = "" if outside is None else ", where a download is stored first"
                message = f"{local.name} already exists in the shared folder with different content{first}"
                raise TargetExists(message, name=name, hint=Hint.OTHER_NAME)
            if local is None and outside is None and await self._is_here_ignored(version, name):
                await self.finish(run, item, DownloadStats(0.0, (), resumed_bytes=0), present_as=name)
                return False
            if local is None and version.size <= SMALL_FILE_MAX and self.library.any_by_id(version.id):
                copies.append(item)
                return False
            return not await self.use(run, item)
        except PeerError as error:
            run.fail(item, error)
            return False

    async def _is_here_ignored(self, version: Version, name: str) -> bool:
        """Return whether a file that `.p2pignore` leaves out has the name and the content of a version.

        Raises:
            TargetExists: such a file has other content.
        """
        if not self.scanner.ignore_rules.reason_for(name):
            return False
        same = await self.threads.run_cancellable(
            self.threads.disk, lambda stop: self.scanner.ignored_file_has(name, version.id, stop=stop)
        )
        if same is False:
            message = f"{name} already exists in the shared folder with different content, and is not shared"
            raise TargetExists(message, name=name, hint=Hint.OTHER_NAME)
        return bool(same)

    async def copy_small(self, run: DownloadRun, items: Sequence[ResolvedFile]) -> list[ResolvedFile]:
        """Publish small files whose content is here, in batches; return those whose content is gone meanwhile."""
        gone: list[ResolvedFile] = []
        for batch in batched(items, BATCH_MAX_FILES, BATCH_MAX_BYTES, lambda item: item.file.version.size):
            run.show(Phase.COPYING, batch[0])
            errors = await self.copier.copy_small([run.version_of(item) for item in batch])
            await self.announce()
            async for item, error in paced(zip(batch, errors, strict=True)):
                try:
                    if error is not None:
                        raise error
                    await self.finish(run, item, run.stats(run.sources.get(item.file.version.id, ())))
                except FileChanged as fault:
                    run.fail(item, fault)
                except NoSuchFile:
                    gone.append(item)
                except PeerError as fault:
                    run.fail(item, fault)
        return gone

    async def use(self, run: DownloadRun, item: ResolvedFile, *, queued: bool = False) -> bool:
        """Finish a file whose content is in the shared folder, under its own name or another one.

        Args:
            run: The run.
            item: The file.
            queued: Whether another transfer brought the content while the command waited for it. Then the result is
                not "already present".

        Returns:
            False if the content is not here.

        Raises:
            PeerError: The content cannot be copied to where it should be.
        """
        name, id_ = run.name_of(item), item.file.version.id
        local = self.library.by_name(name)
        if local is not None and local.id == id_:
            if queued:
                await self.finish(run, item, run.stats())
            else:
                await self.finish(run, item, DownloadStats(0.0, (), resumed_bytes=0), present_as=local.name)
            return True
        if not self.library.any_by_id(id_):
            return False
        run.show(Phase.COPYING, item)
        await self.copier.copy_within(run.version_of(item))
        await self.announce()
        await self.finish(run, item, run.stats())
        return True

    async def finish(self, run: DownloadRun, item: ResolvedFile, stats: DownloadStats, *, present_as: str = "") -> None:
        """Make the copy outside the shared folder, if there is to be one, and report the result.

        Args:
            run: The run.
            item: The file.
            stats: How it was downloaded.
            present_as: Its name in the shared folder, if it was there before the command.

        Raises:
            PeerError: The copy cannot be made.
        """
        name, version = present_as or run.name_of(item), item.file.version
        if stats.holders:
            run.sources[version.id] = stats.holders
        outside = run.target.copy_path_of(name)
        if outside is not None:
            await self.copier.export(version, outside, make_folders=run.target.copy_into_folder)
        run.transfer.emit(
            Downloaded(
                name=name,
                id=version.id,
                size=version.size,
                path=run.target.result_path(name, self.shared_dir),
                seconds=stats.seconds,
                holders=stats.holders,
                resumed_bytes=stats.resumed_bytes,
                already_present=bool(present_as) and outside is None,
                arguments=item.arguments,
            )
        )
