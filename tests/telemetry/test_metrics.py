"""Metrics: places for series, counting, and an exposition that Prometheus' own parser reads."""

import math
import re
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fastgw._core import table as shared
from fastgw.telemetry.metrics import (
    CATALOGUE,
    METRICS,
    NONE,
    OTHER,
    Handles,
    Mirror,
    ProcessHandles,
    RegistryError,
    SeriesRegistry,
    account,
    render,
    series_name,
)
from fastgw.telemetry.record import Attempt, Record

DOC = Path(__file__).parents[2] / "docs" / "metrics.md"
TARGET = ("fast", "openai", "openai/gpt-4o-mini")


class Plain:
    """A table of one stripe in a list, for what needs no table."""

    def __init__(self, size=8192):
        self.words = [0] * size

    def add(self, counter, n):
        self.words[counter] += n

    def counters_sum(self, start, n):
        return self.words[start : start + n]


@pytest.fixture
def table(tmp_path):
    table = shared.Table.open(str(tmp_path / "table-v1.map"), slots=64, lanes=4, counters=2048, create=True)
    yield table
    table.close()


@pytest.fixture
def lanes(table):
    lanes = [table.claim_lane() for _ in range(2)]
    yield lanes
    for lane in lanes:
        lane.close()


def parse(text):
    """{family: {(sample name, labels): value}} and the kind of each family."""
    families = list(text_string_to_metric_families(text.decode()))
    samples = {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}
    assert len(samples) == sum(len(family.samples) for family in families)
    return samples, {family.name: family.type for family in families}


def at(samples, name, model=TARGET[0], provider=TARGET[1], target=TARGET[2], **more):
    labels = {"model": model, "provider": provider, "target": target, **more}
    return samples[name, frozenset(labels.items())]


def record(**fields):
    return Record(**{"id": "x", "ts": 0, "status": 200, "attempts": (Attempt("t", "p", 200),), **fields})


def test_every_metric_is_documented_with_its_type_and_labels():
    rows = re.findall(r"^\| `(fastgw_\w+)` \| (\w+) \| ([\w, ]*?) ?\| \S", DOC.read_text(), re.M)
    documented = {name: (kind, tuple(filter(None, labels.split(", ")))) for name, kind, labels in rows}
    assert len(rows) == len(documented)
    assert documented == {metric.name: (metric.kind, metric.labels) for metric in CATALOGUE}


def test_names_follow_the_conventions():
    assert len(METRICS) == len(CATALOGUE)
    for metric in CATALOGUE:
        assert re.fullmatch(r"fastgw_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert metric.kind != "histogram" or metric.name.endswith("_seconds")
        assert "\n" not in metric.help


def test_a_call_is_counted_and_read_back_through_the_table(table, lanes):
    registry = SeriesRegistry(2048)
    assert registry.target(*TARGET)
    handles = Handles.find(registry.series, *TARGET)
    call = record(
        attempts=(Attempt("a", "p", 503), Attempt("b", "p", 200)),
        input_tokens=100,
        output_tokens=20,
        cached_tokens=60,
        cost_nano=1_234_567_890,
        bytes_in=400,
        bytes_out=600,
        first_token_ms=3.0,
        total_ms=1000.0,
        overhead_us=90,
    )
    account(lanes[0], handles, call)
    account(lanes[1], handles, call)
    account(lanes[1], handles, record(status=429, attempts=()))
    samples, kinds = parse(render(table, registry))
    assert at(samples, "fastgw_requests_total", status="2xx") == 2
    assert at(samples, "fastgw_requests_total", status="429") == 1
    assert at(samples, "fastgw_requests_total", status="4xx") == 0
    assert at(samples, "fastgw_retries_total") == 2
    assert at(samples, "fastgw_input_tokens_total") == 200
    assert at(samples, "fastgw_output_tokens_total") == 40
    assert at(samples, "fastgw_cached_tokens_total") == 120
    assert at(samples, "fastgw_cost_dollars_total") == 2.46913578
    assert at(samples, "fastgw_request_bytes_total") == 800
    assert at(samples, "fastgw_response_bytes_total") == 1200
    assert at(samples, "fastgw_request_duration_seconds_sum") == 2.0
    assert at(samples, "fastgw_request_duration_seconds_count") == 3
    assert at(samples, "fastgw_first_token_seconds_count") == 2
    assert at(samples, "fastgw_overhead_seconds_sum") == 0.00018
    assert kinds["fastgw_overhead_seconds"] == "histogram"
    assert kinds["fastgw_requests"] == "counter"
    assert at(samples, "fastgw_requests_total", NONE, NONE, NONE, status="2xx") == 0


@given(st.lists(st.integers(0, 2**40), max_size=30))
def test_histograms_are_cumulative_and_end_in_the_count(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("t") / "table-v1.map"
    table = shared.Table.open(str(path), slots=64, lanes=1, counters=1024, create=True)
    lane = table.claim_lane()
    registry = SeriesRegistry(1024)
    place = Handles.find(registry.series).duration
    for value in values:
        lane.observe(place, value)
    samples, _ = parse(render(table, registry))
    buckets = {
        float(dict(labels)["le"]): value
        for (name, labels), value in samples.items()
        if name == "fastgw_request_duration_seconds_bucket" and ("model", NONE) in labels
    }
    assert sorted(buckets)[0] == 1e-6
    assert sorted(buckets)[-1] == math.inf
    assert len(buckets) == len(shared.HISTOGRAM_BOUNDS_US) + 1
    for bound, counted in buckets.items():
        assert counted == sum(value <= bound * 1e6 for value in values)
    assert at(samples, "fastgw_request_duration_seconds_count", NONE, NONE, NONE) == len(values)
    total = at(samples, "fastgw_request_duration_seconds_sum", NONE, NONE, NONE)
    assert total == pytest.approx(sum(values) / 1e6)
    lane.close()
    table.close()


@pytest.mark.parametrize(
    ("status", "field"),
    [(200, "2xx"), (204, "2xx"), (400, "4xx"), (404, "4xx"), (429, "429"), (499, "499"), (500, "5xx"), (0, "5xx")],
)
def test_status_classes(status, field):
    handles = Handles.find(SeriesRegistry(1024).series)
    assert handles.requests(status) == getattr(handles, f"requests_{field}")


def test_every_place_is_its_own():
    registry = SeriesRegistry(8192)
    for n in range(20):
        assert registry.target(f"m{n}", "p", f"p/{n}")
    taken = []
    for name, place in registry.series.items():
        kind = METRICS[name.partition("{")[0]].kind
        taken += range(place, place + (shared.HISTOGRAM_WORDS if kind == "histogram" else 1))
    assert sorted(taken) == list(range(registry.size))


def test_a_target_keeps_its_places():
    registry = SeriesRegistry(8192)
    registry.target(*TARGET)
    first = Handles.find(registry.series, *TARGET)
    size = registry.size
    registry.target("m2", "p", "p/2")
    assert registry.target(*TARGET)
    assert Handles.find(registry.series, *TARGET) == first
    assert registry.size > size


def test_beyond_capacity_targets_are_counted_as_other():
    table = Plain(1024)
    registry = SeriesRegistry(1024)
    fitted = [n for n in range(20) if registry.target(f"m{n}", "p", f"p/{n}")]
    assert 3 <= len(fitted) < 20
    assert registry.size <= 1024
    assert registry.overflowed == 20 - len(fitted)
    last = Handles.find(registry.series, "m19", "p", "p/19")
    assert last == Handles.find(registry.series, OTHER, OTHER, OTHER)
    table.add(last.requests_2xx, 5)
    samples, _ = parse(render(table, registry))
    assert at(samples, "fastgw_requests_total", OTHER, OTHER, OTHER, status="2xx") == 5
    assert samples["fastgw_metric_series_overflow_total", frozenset()] == registry.overflowed
    with pytest.raises(RegistryError, match="too few"):
        SeriesRegistry(100)


def test_registry_survives_a_restart():
    registry = SeriesRegistry(4096)
    registry.target(*TARGET)
    again = SeriesRegistry.load(registry.dump(), 4096)
    assert again.series == registry.series
    assert again.size == registry.size
    assert again.target("new", "p", "p/new")
    assert Handles.find(again.series, "new", "p", "p/new").requests_2xx >= registry.size


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda data: b"{", "not a stored"),
        (lambda data: b"[]", "not a stored"),
        (lambda data: data.replace(b'"histogram_words":', b'"histogram_words":9'), "other histogram buckets"),
        (lambda data: data.replace(b'"size":', b'"size":9'), "the table has 1024"),
        (lambda data: data.replace(b"fastgw_worker_restarts_total", b"fastgw_gone_total"), "inconsistent"),
        (lambda data: re.sub(rb'(fastgw_worker_restarts_total":)\d+', rb"\g<1>0", data), "inconsistent"),
        (lambda data: re.sub(rb'(fastgw_worker_restarts_total":)\d+', rb"\g<1>1023", data), "counters"),
    ],
)
def test_a_stored_registry_that_does_not_fit_is_refused(change, why):
    data = SeriesRegistry(1024).dump()
    changed = change(data)
    assert changed != data
    with pytest.raises(RegistryError, match=why):
        SeriesRegistry.load(changed, 1024)


def test_a_new_registry_on_an_old_table_begins_at_zero():
    table = Plain()
    for place in range(8192):
        table.add(place, 1000 + place)
    registry = SeriesRegistry(8192)
    registry.rebase(table)
    restarts = ProcessHandles.find(registry.series).worker_restarts
    table.add(restarts, 3)
    again = SeriesRegistry.load(registry.dump(), 8192)
    again.target(*TARGET)
    table.add(Handles.find(again.series, *TARGET).input_tokens, 7)
    samples, _ = parse(render(table, again))
    assert samples["fastgw_worker_restarts_total", frozenset()] == 3
    assert at(samples, "fastgw_input_tokens_total") == 7
    assert at(samples, "fastgw_output_tokens_total") == 0
    fresh = Plain()
    fresh.add(restarts, 2)
    assert parse(render(fresh, again))[0]["fastgw_worker_restarts_total", frozenset()] == 2


def test_labels_of_any_text_are_read_back():
    registry = SeriesRegistry(8192)
    odd = ('quo"te', "back\\slash\\n", "line\nfeed é,}{=")
    registry.target(*odd)
    samples, _ = parse(render(Plain(), registry))
    assert at(samples, "fastgw_requests_total", *odd, status="2xx") == 0
    assert at(samples, "fastgw_overhead_seconds_count", *odd) == 0


def test_gauges_and_counters_from_outside():
    registry = SeriesRegistry(1024)
    table = Plain()
    table.add(ProcessHandles.find(registry.series).records_dropped, 5)
    extra = {
        series_name("fastgw_info", "0.1.0"): 1,
        series_name("fastgw_workers"): 2,
        series_name("fastgw_start_time_seconds"): 1767323045.5,
        series_name("fastgw_upstream_connections", "idle"): 7,
        series_name("fastgw_records_dropped_total"): 10,
        series_name("fastgw_metric_series_overflow_total"): 1,
    }
    text = render(table, registry, extra)
    samples, kinds = parse(text)
    assert samples["fastgw_info", frozenset({("version", "0.1.0")})] == 1
    assert samples["fastgw_workers", frozenset()] == 2
    assert samples["fastgw_start_time_seconds", frozenset()] == 1767323045.5
    assert samples["fastgw_upstream_connections", frozenset({("state", "idle")})] == 7
    assert samples["fastgw_records_dropped_total", frozenset()] == 15
    assert samples["fastgw_metric_series_overflow_total", frozenset()] == 1
    assert kinds["fastgw_workers"] == "gauge"
    assert text.endswith(b"\n")
    with pytest.raises(KeyError):
        render(table, registry, {"fastgw_undocumented": 1})


def test_series_names_are_checked():
    assert series_name("fastgw_limit_refusals_total", "key") == 'fastgw_limit_refusals_total{level="key"}'
    with pytest.raises(KeyError):
        series_name("fastgw_nothing")
    with pytest.raises(ValueError):
        series_name("fastgw_limit_refusals_total")
    with pytest.raises(ValueError):
        series_name("fastgw_workers", "extra")


@given(st.integers(0, 2**63))
def test_money_is_exact(nanos):
    table = Plain()
    registry = SeriesRegistry(1024)
    table.add(Handles.find(registry.series).cost_nano, nanos)
    line = next(
        line
        for line in render(table, registry).decode().splitlines()
        if line.startswith('fastgw_cost_dollars_total{model="none"')
    )
    assert Decimal(line.rpartition(" ")[2]) * 10**9 == nanos


def test_mirror_publishes_only_what_is_new():
    table = Plain()
    mirror = Mirror(3)
    for total in (0, 5, 5, 9):
        mirror.publish(table, total)
        assert table.words[3] == total


def test_all_fixed_series_have_places_and_values_in_the_catalogue():
    registry = SeriesRegistry(1024)
    places = ProcessHandles.find(registry.series)
    names = {name for name in registry.series if "model=" not in name}
    fixed = {
        series_name(metric.name, *values)
        for metric in CATALOGUE
        if metric.kind == "counter" and metric.name != "fastgw_metric_series_overflow_total"
        for values in (metric.values or [()])
        if metric.labels[:1] != ("model",)
    }
    assert names == fixed
    assert len({getattr(places, field) for field in ProcessHandles.__struct_fields__}) == len(names)
