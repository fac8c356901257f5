"""The end of a call: one record as the page says it, each number counted once."""

import re
from collections import Counter
from pathlib import Path
from time import monotonic, time

import msgspec
import pytest

from fastgw.call import Usage
from fastgw.gateway.settle import Ledger, record_of
from fastgw.plan.plan import Options
from fastgw.telemetry import record
from fastgw.telemetry.metrics import Handles, ProcessHandles
from fastgw.telemetry.record import Attempt
from tests.gateway.support import PRICE, SERIES, Way, call_of, key_of, live_of, route_of

DOC = Path(__file__).parents[2] / "docs" / "record.md"
PROCESS = ProcessHandles.find(SERIES)


class Lane:
    def __init__(self):
        self.counts, self.seen = Counter(), Counter()

    def add(self, counter, n):
        assert n >= 0
        self.counts[counter] += n

    def add_all(self, counters, amounts):
        for counter, n in zip(counters, amounts, strict=True):
            self.add(counter, n)

    def observe(self, base, value):
        assert value >= 0
        self.seen[base] += 1


class Spool:
    def __init__(self, *, full=False):
        self.full, self.payloads = full, []

    @property
    def place(self):
        return 7, len(self.payloads)

    def append(self, payload):
        self.payloads.append(payload)
        return not self.full


class Book:
    """Writes down what was done with a call's place, in order."""

    def __init__(self, over=(0, 0)):
        self.done, self.over = [], over

    def commit_totals(self, *figures):
        self.done.append(("totals", *figures))

    def mark_recorded(self, *figures):
        self.done.append(("recorded", *figures))

    def settle(self, entry, first, requests, tokens, nano, now_ns):
        self.done.append(("settle", entry, first, requests, tokens, nano))
        return self.over

    def end(self, entry):
        self.done.append(("end", entry))

    def finish(self, entry, tokens, nano, now_ns):
        self.mark_recorded(entry, 1, tokens, nano)
        over = self.settle(entry, 0, 1, tokens, nano, now_ns)
        self.end(entry)
        return over


class Log:
    def __init__(self):
        self.lines = []

    def access(self, written):
        self.lines.append(written)


def settled(call, **more):
    lane, spool, log = Lane(), Spool(**more), Log()
    Ledger(lane, Book(), spool, log).settle(call)
    (payload,) = spool.payloads
    return record.decode(payload), lane, log


def served(**more):
    way = Way("a", price=PRICE)
    fields = {
        "started": monotonic() - 2,
        "status": 200,
        "key": key_of(),
        "model": route_of(way),
        "target": way,
        "attempts": [Attempt("b/m", "b", 503, "503", 1.0), Attempt("a/m", "a", 200, "", 2.0)],
        "usage": Usage(10, 4, 3, 1, 2),
        "usage_source": "upstream",
        "cost_nano": 1234,
        "bytes_in": 100,
        "bytes_out": 200,
        "stream": True,
        "label": "mine",
        "upstream_seconds": 1.5,
    }
    call = call_of(**{**fields, **more})
    call.first_byte_at = call.started + 0.25
    return call


def test_the_record_of_a_call():
    written = record_of(served())
    as_dict = msgspec.structs.asdict(written)
    assert abs(as_dict.pop("ts") / 1e6 - (time() - 2)) < 5
    assert 2000 <= as_dict.pop("total_ms") < 10_000
    assert 500_000 <= as_dict.pop("overhead_us") < 8_000_000
    assert as_dict.pop("first_token_ms") == pytest.approx(250)
    assert as_dict == {
        "id": "req_1", "key": "alice", "model": "fast", "provider": "a", "target": "a/m", "status": 200, "error": None,
        "attempts": (Attempt("b/m", "b", 503, "503", 1.0), Attempt("a/m", "a", 200, "", 2.0)), "stream": True,
        "input_tokens": 10, "output_tokens": 4, "cached_tokens": 3, "cache_write_tokens": 1, "reasoning_tokens": 2,
        "usage_source": "upstream", "cost_nano": 1234, "price_version": "config", "bytes_in": 100, "bytes_out": 200,
        "cache": "off", "revision": 3, "label": "mine",
    }  # fmt: skip


def test_the_page_lists_the_records_fields_in_their_order():
    on_page = re.findall(r"^\| `(\w+)` \|", DOC.read_text().split("An attempt:")[0], re.M)
    assert on_page == [field.name for field in msgspec.structs.fields(record.Record)]


def test_the_record_of_a_call_that_was_refused_at_the_door():
    written = record_of(
        call_of(started=monotonic(), status=401, error="invalid_api_key", model_name="as the caller says")
    )
    assert (written.key, written.model, written.provider, written.target) == (None, None, None, None)
    assert (written.error, written.attempts, written.usage_source) == ("invalid_api_key", (), "none")
    assert (written.cost_nano, written.price_version, written.first_token_ms) == (None, None, None)


def test_without_a_price_there_is_no_cost_and_no_price_list():
    written = record_of(served(target=Way("a")))
    assert (written.cost_nano, written.price_version) == (None, None)


def test_without_usage_there_is_no_cost():
    written = record_of(served(usage=None))
    assert (written.cost_nano, written.price_version, written.input_tokens) == (None, None, 0)


def test_a_wildcards_target_has_the_upstreams_model():
    assert record_of(served(upstream_model="gpt")).target == "a/gpt"


def test_each_number_is_counted_once_and_nowhere_else():
    written, lane, log = settled(served())
    at = Handles.find(SERIES, "fast", "a", "a/m")
    assert lane.counts == {
        PROCESS.records_written: 1,
        at.requests_2xx: 1,
        at.retries: 1,
        at.input_tokens: 10,
        at.output_tokens: 4,
        at.cached_tokens: 3,
        at.cost_nano: 1234,
        at.bytes_in: 100,
        at.bytes_out: 200,
    }
    assert lane.seen == {at.duration: 1, at.first_token: 1, at.overhead: 1}
    assert log.lines == [written]


def test_without_a_target_it_counts_under_none():
    _, lane, _ = settled(call_of(started=monotonic(), status=401))
    none = Handles.find(SERIES)
    assert +lane.counts == {PROCESS.records_written: 1, none.requests_4xx: 1}


@pytest.mark.parametrize("level", ["key", "model", "gateway"])
def test_a_limits_refusal_is_counted_by_its_level(level):
    _, lane, _ = settled(call_of(started=monotonic(), status=429, refused_by=level))
    assert lane.counts[getattr(PROCESS, f"refusals_{level}")] == 1
    assert lane.counts[Handles.find(SERIES).requests_429] == 1


def test_a_record_that_was_shed_is_counted_as_that():
    _, lane, log = settled(served(), full=True)
    assert (lane.counts[PROCESS.records_shed], lane.counts[PROCESS.records_written]) == (1, 0)
    assert lane.counts[Handles.find(SERIES, "fast", "a", "a/m").requests_2xx] == 1
    assert len(log.lines) == 1


def test_the_access_log_can_be_off():
    assert settled(served(live=live_of(Options(access_log=False))))[2].lines == []


def test_a_call_settles_at_its_own_plans_places():
    ledger = Ledger(Lane(), Book(), Spool(), Log())
    ledger.settle(served())
    later = live_of()
    moved = {name: place + 1000 for name, place in SERIES.items()}
    later.plan = msgspec.structs.replace(later.plan, series=moved)
    ledger.settle(call_of(started=monotonic(), status=401, live=later))
    assert ledger.lane.counts[PROCESS.records_written] == 1
    assert ledger.lane.counts[PROCESS.records_written + 1000] == 1
    assert ledger.lane.counts[Handles.find(moved).requests_4xx] == 1
