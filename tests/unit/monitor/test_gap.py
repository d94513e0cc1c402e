"""What people are told of offset gaps."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from monitor.domain.gap import OffsetGap, losses, resets

NOW = datetime(2026, 3, 2, 12, 30, tzinfo=UTC)


def gap(partition: int, stored: int, resumed: int) -> OffsetGap:
    return OffsetGap("fusionwatch", "fusion.requests", partition, stored, resumed, max(0, resumed - stored), NOW)


def test_lost_messages_are_added_up_and_the_worst_partition_comes_first() -> None:
    assert losses([gap(0, 100, 101)]) == (
        "1 message left the log before being read: fusion.requests[0] from offset 100 to 100, group fusionwatch."
    )
    assert losses([gap(0, 100, 110), gap(1, 5, 405)]) == (
        "410 messages left the log before being read: fusion.requests[1] from offset 5 to 404, group fusionwatch; "
        "fusion.requests[0] from offset 100 to 109, group fusionwatch."
    )


def test_a_reset_says_where_reading_stood_and_goes_on() -> None:
    assert resets([gap(0, 100, 0)]) == (
        "The log ends before what had been read of it, as after its topic was made anew: "
        "fusion.requests[0] had been read to offset 100 and goes on at 0, group fusionwatch."
    )


def test_a_topic_known_to_be_another_one_is_told_apart() -> None:
    assert resets([gap(1, 7, 0), replace(gap(0, 100, 0), made_anew=True)]) == (
        "The topic was deleted and made anew: "
        "fusion.requests[0] had been read to offset 100 and goes on at 0, group fusionwatch. "
        "The log ends before what had been read of it, as after its topic was made anew: "
        "fusion.requests[1] had been read to offset 7 and goes on at 0, group fusionwatch."
    )


def test_a_sentence_names_a_few_and_counts_the_rest() -> None:
    for sentence in (losses, resets):
        said = sentence([gap(partition, 100, 0) for partition in range(64)])
        assert said.count("fusion.requests[") == 5
        assert said.endswith("; and 59 more.")
