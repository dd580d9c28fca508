# SPDX-License-Identifier: Apache-2.0
"""The mailbox: newest wins, nothing uncounted, whoever waits is woken."""

from __future__ import annotations

import threading
import time

from hypothesis import given
from hypothesis import strategies as st

from depth_sr_ros.mailbox import Mailbox, MailboxCounts


def test_the_newest_item_wins_and_the_others_are_counted() -> None:
    box: Mailbox[int] = Mailbox()
    for item in range(5):
        box.put(item)
    assert box.counts() == MailboxCounts(put=5, taken=0, overwritten=4, waiting=1)
    assert box.take(0) == 4
    assert box.take(0) is None
    assert box.counts() == MailboxCounts(put=5, taken=1, overwritten=4, waiting=0)


def test_take_waits_for_an_item() -> None:
    box: Mailbox[str] = Mailbox()
    taken: list[str | None] = []
    thread = threading.Thread(target=lambda: taken.append(box.take()))
    thread.start()
    box.put("image")
    thread.join(5)
    assert taken == ["image"]


def test_take_gives_up_after_its_timeout() -> None:
    start = time.monotonic()
    assert Mailbox().take(0.05) is None
    assert 0.04 < time.monotonic() - start < 2


def test_closing_wakes_who_waits_and_counts_what_waited() -> None:
    box: Mailbox[int] = Mailbox()
    taken: list[int | None] = []
    thread = threading.Thread(target=lambda: taken.append(box.take()))
    thread.start()
    box.close()
    thread.join(5)
    assert taken == [None]
    box.put(1)  # a callback that comes late
    assert box.take() is None
    assert box.counts() == MailboxCounts(put=1, taken=0, overwritten=1, waiting=0)


def test_clearing_drops_what_waits_and_takes_the_next_item() -> None:
    box: Mailbox[int] = Mailbox()
    box.put(1)
    box.clear()
    assert box.counts() == MailboxCounts(put=1, taken=0, overwritten=1, waiting=0)
    assert box.take(0) is None
    box.put(2)
    assert box.take(0) == 2


@given(st.lists(st.sampled_from(["put", "take", "clear", "close"]), max_size=40))
def test_put_is_always_taken_plus_overwritten_plus_waiting(steps: list[str]) -> None:
    box: Mailbox[int] = Mailbox()
    for index, step in enumerate(steps):
        if step == "put":
            box.put(index)
        elif step == "take":
            box.take(0)
        elif step == "clear":
            box.clear()
        else:
            box.close()
        counts = box.counts()
        assert counts.put == counts.taken + counts.overwritten + counts.waiting
        assert counts.waiting in (0, 1)


def test_nothing_is_lost_or_doubled_between_threads() -> None:
    box: Mailbox[int] = Mailbox()
    taken: list[int] = []

    def consume() -> None:
        while (item := box.take()) is not None:
            taken.append(item)

    consumer = threading.Thread(target=consume)
    consumer.start()

    def produce(start: int) -> None:
        for item in range(start, start + 2000):
            box.put(item)

    producers = [threading.Thread(target=produce, args=(start,)) for start in (0, 10_000)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    while box.counts().waiting:
        time.sleep(0.001)
    box.close()
    consumer.join(5)
    counts = box.counts()
    assert counts.put == 4000
    assert len(taken) == len(set(taken)) == counts.taken
    assert counts.taken + counts.overwritten == 4000
