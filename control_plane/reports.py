"""What of an edge's report counts: nothing that it cannot know or cannot be."""

from __future__ import annotations

import msgspec

from farcast.control_plane.directory import Directory
from farcast.control_plane.journal import Journal
from farcast.control_plane.members import Member, Members
from farcast.proto.control.messages import Report


def judged(report: Report, member: Member, members: Members, sent_us: int, journal: Journal) -> Report:
    """The report without what cannot be: links to strangers, demand for them, a clock that went back behind
    ``sent_us``, the newest time that the edge has said in this session."""
    fields: dict[str, object] = {}
    known, own = members.ids, member.node_id
    if not known >= (peers := {link.peer for link in report.links}) or own in peers:
        links = tuple(li for li in report.links if li.peer in known and li.peer != own)
        fields["links"] = links
        journal.count("links_to_strangers", len(report.links) - len(links))
    if report.demand is not None and any(load.origin not in known for load in report.demand):
        fields["demand"] = demand = tuple(lo for lo in report.demand if lo.origin in known)
        journal.count("demand_for_strangers", len(report.demand) - len(demand))
    if report.sent_us < sent_us:
        fields["distrust"] = True
        journal.count("reports_with_a_clock_that_went_back")
    return msgspec.structs.replace(report, **fields) if fields else report


def take_offers(report: Report, member: Member, directory: Directory, journal: Journal, now_us: int) -> None:
    """Namespaces that the edge offers, none of them for longer than it can have."""
    too_old = directory.too_old
    directory.handle_offers(
        member.node_id,
        report.offered,
        report.withdrawn,
        now_us,
        full=report.full,
        more=report.offers_follow > 0,
        since_min_us=member.holds_since_us,
    )
    journal.count("offers_older_than_their_edge", directory.too_old - too_old)
