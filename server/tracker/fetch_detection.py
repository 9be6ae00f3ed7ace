"""What an announcement tells of transfers between peers, which the tracker never sees. Decides nothing."""

from collections.abc import Collection

from tracker.activity_log import Fetch
from tracker.corruption_reports import CorruptionReports
from tracker.index import Index
from tracker.models import IndexEntry, Session

# Of one announcement so many are told, each with so many of the holders that it may have come from.
MAX_LISTED = 20


def detect_fetches(
    index: Index, reports: CorruptionReports, session: Session, files: Collection[IndexEntry], now: float
) -> list[Fetch]:
    """What of an announcement the peer was given tickets for and only now has, or only now has whole.

    To be asked before the index takes the announcement: afterwards nobody knows what was new in it.
    """
    if not reports.has_tickets(session.peer_id):
        return []
    found: list[Fetch] = []
    for name, file_id, size, complete in files:
        if len(found) == MAX_LISTED:
            break
        if not reports.may_report(session.peer_id, file_id):
            continue
        before = index.holder(file_id, session.peer_id)
        if before is None or (complete and not before.complete):
            holders = [h.session.address for h in index.some_holders(file_id, MAX_LISTED) if h.session != session]
            found.append(Fetch(now, name, file_id, size, session.address, holders, complete))
    return found
