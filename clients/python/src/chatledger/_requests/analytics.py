"""AnalyticsService."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from .. import _convert as convert
from .._rpc import Listing, Page, Paging, Rpc, by_name, rpc
from ..types import DailyVolume, SessionLengthBucket, TopDocument, UserActivity
from ..v1 import analytics_pb2 as pb

if TYPE_CHECKING:
    from typing_extensions import Unpack


def top_documents(*, since: datetime.datetime | None = None, limit: int = 0) -> Rpc[list[TopDocument]]:
    """The most cited documents, most cited first; ``limit`` 0 = 50, at most 500."""
    request = convert.make(pb.ListTopDocumentsRequest, since=convert.optional_time_to(since, "since"), limit=limit)
    return rpc(
        "AnalyticsService/ListTopDocuments",
        request,
        pb.ListTopDocumentsResponse,
        lambda r: [convert.top_document_from(d) for d in r.documents],
    )


@by_name(Listing, Paging)
def user_activity(**paging: Unpack[Paging]) -> Listing[UserActivity]:
    """Users by id, each with how much they chatted."""

    def page(token: str, size: int) -> Rpc[Page[UserActivity]]:
        return rpc(
            "AnalyticsService/ListUserActivity",
            convert.make(pb.ListUserActivityRequest, page_size=size, page_token=token),
            pb.ListUserActivityResponse,
            lambda r: Page([convert.user_activity_from(u) for u in r.users], r.next_page_token),
        )

    return Listing(page, **paging)


def daily_volume(
    *, since: datetime.datetime | None = None, time_zone: str | None = None
) -> Rpc[list[DailyVolume]]:
    """Messages by day, oldest first, without the empty days. ``time_zone``: an IANA name; default UTC."""
    request = convert.make(
        pb.ListDailyVolumeRequest, since=convert.optional_time_to(since, "since"), time_zone=time_zone
    )
    return rpc(
        "AnalyticsService/ListDailyVolume",
        request,
        pb.ListDailyVolumeResponse,
        lambda r: [convert.daily_volume_from(d) for d in r.days],
    )


def session_length_distribution(*, since: datetime.datetime | None = None) -> Rpc[list[SessionLengthBucket]]:
    """How many sessions have how many messages: all five buckets, shortest first."""
    request = convert.make(pb.GetSessionLengthDistributionRequest, since=convert.optional_time_to(since, "since"))
    return rpc(
        "AnalyticsService/GetSessionLengthDistribution",
        request,
        pb.GetSessionLengthDistributionResponse,
        lambda r: [convert.bucket_from(b) for b in r.buckets],
    )
