"""Metrics: names, counter places, and the Prometheus text form of their sums.

Every number that many workers add to is a word in the shared table, one stripe a worker lane; a scrape sums the
stripes. The supervisor's ``SeriesRegistry`` gives each series its place once and for good, the plan carries
``{series: place}`` to the workers, and they add by place (``Handles``, ``ProcessHandles``). ``CATALOGUE`` is the whole
list of what is exposed; docs/metrics.md describes the same list.
"""

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, Protocol, Self

import msgspec
from msgspec import Struct

from fastgw._core import table as shared
from fastgw.telemetry.record import Record, asked

OTHER = "other"
"""Label value of the series that take what finds no place of its own."""

NONE = "none"
"""Label value of the series for calls refused before a target was chosen."""

_TARGET_LABELS = ("model", "provider", "target")
_LEVELS = ("gateway", "tenant", "team", "key", "model", "target")
_NANO, _MICRO = 1_000_000_000, 1_000_000


class Metric(NamedTuple):
    """One family. A counter's stored integer divided by ``unit`` is what is shown; histograms store microseconds."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ()
    unit: int = 1


def _target(name: str, kind: Literal["counter", "histogram"], text: str, *more: str, unit: int = 1) -> Metric:
    return Metric(name, kind, text, (*_TARGET_LABELS, *more), unit=unit)


CATALOGUE: tuple[Metric, ...] = (
    _target("fastgw_requests_total", "counter", "Calls by final status class (499: the client went away).", "status"),
    _target("fastgw_retries_total", "counter", "Upstream attempts beyond the first of a call."),
    _target("fastgw_breaker_opened_total", "counter", "Times a target came to be left alone."),
    _target("fastgw_input_tokens_total", "counter", "Input tokens, cached ones included."),
    _target("fastgw_output_tokens_total", "counter", "Output tokens, reasoning included."),
    _target("fastgw_cached_tokens_total", "counter", "Input tokens the provider read from its cache."),
    _target("fastgw_cost_dollars_total", "counter", "Cost of calls in US dollars; unpriced calls add 0.", unit=_NANO),
    _target("fastgw_request_bytes_total", "counter", "Request body bytes received from clients."),
    _target("fastgw_response_bytes_total", "counter", "Response body bytes sent to clients."),
    _target("fastgw_request_duration_seconds", "histogram", "From the call's acceptance to its last byte."),
    _target("fastgw_first_token_seconds", "histogram", "From the call's acceptance to the first byte of the answer."),
    _target("fastgw_overhead_seconds", "histogram", "The gateway's own share of the duration."),
    Metric("fastgw_upstream_connections_opened_total", "counter", "Connections opened to upstreams."),
    Metric("fastgw_upstream_connections_reused_total", "counter", "Upstream attempts sent on a connection kept open."),
    Metric("fastgw_upstream_connections_failed_total", "counter", "Connections to upstreams that could not be made."),
    Metric("fastgw_upstream_queue_refused_total", "counter", "Calls refused: the queue for a connection was full."),
    Metric("fastgw_credential_failures_total", "counter", "Failed attempts to renew a credential for upstreams."),
    Metric(
        "fastgw_limit_refusals_total",
        "counter",
        "Calls refused by a limit, by its level.",
        ("level",),
        tuple((level,) for level in _LEVELS),
    ),
    Metric("fastgw_token_overshoot_total", "counter", "Tokens by which calls went beyond a limit."),
    Metric(
        "fastgw_budget_overshoot_dollars_total",
        "counter",
        "US dollars by which calls went beyond a budget.",
        unit=_NANO,
    ),
    Metric("fastgw_soft_budget_exceeded_total", "counter", "Calls that met a soft budget used up."),
    Metric("fastgw_calls_reaped_total", "counter", "Calls whose worker died, settled and recorded by the node."),
    Metric("fastgw_calls_shed_total", "counter", "Calls refused by a worker that had too much to do."),
    Metric("fastgw_records_written_total", "counter", "Records appended to the spool."),
    Metric("fastgw_records_shed_total", "counter", "Records lost: no spool segment was ready, or too large."),
    Metric(
        "fastgw_records_dropped_total", "counter", "Records deleted with the oldest segments, above the spool's cap."
    ),
    Metric(
        "fastgw_log_lines_dropped_total", "counter", "Log lines lost: the queue was full or stderr did not take them."
    ),
    Metric("fastgw_config_reloads_total", "counter", "Configuration reloads.", ("result",), (("ok",), ("failed",))),
    Metric("fastgw_worker_restarts_total", "counter", "Workers started again after one died or hung."),
    Metric(
        "fastgw_metric_series_overflow_total", "counter", "Targets counted under other: no place was left for theirs."
    ),
    Metric("fastgw_info", "gauge", "Always 1; the label tells the version.", ("version",)),
    Metric("fastgw_start_time_seconds", "gauge", "When the gateway started, UTC seconds since the epoch."),
    Metric("fastgw_ready", "gauge", "1 while the gateway can serve."),
    Metric("fastgw_config_revision", "gauge", "Revision of the plan in force."),
    Metric("fastgw_workers", "gauge", "Worker processes alive."),
    Metric("fastgw_requests_in_flight", "gauge", "Calls being served now."),
    Metric(
        "fastgw_upstream_connections", "gauge", "Upstream connections open now.", ("state",), (("idle",), ("busy",))
    ),
    Metric("fastgw_recorder_behind_seconds", "gauge", "Since the recorder had last taken every record; 0 below 3."),
    Metric("fastgw_recorder_records", "gauge", "Records the recorder ever took from the spool into the exports."),
    Metric("fastgw_recorder_damaged_segments", "gauge", "Segments whose rest the recorder skipped: a broken frame."),
    Metric("fastgw_spool_bytes", "gauge", "Disk taken by the record spool."),
    Metric("fastgw_spool_segments", "gauge", "Files in the record spool."),
)
METRICS: dict[str, Metric] = {metric.name: metric for metric in CATALOGUE}


def series_name(metric: str, *values: str) -> str:
    """A full series name, label values in the catalogue's order: ``fastgw_limit_refusals_total{level="key"}``.

    Raises:
        KeyError: no such metric.
        ValueError: not one value for each of its labels.
    """
    labels = METRICS[metric].labels
    if not labels and not values:
        return metric
    pairs = zip(labels, values, strict=True)
    return metric + "{" + ",".join(f'{label}="{_escape(value)}"' for label, value in pairs) + "}"


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


class _Places(Struct, frozen=True, gc=False):
    """Counter places by field; the metric of each field is in a table beside the class."""

    @classmethod
    def _of(cls, series: Mapping[str, int], names: Mapping[str, str]) -> Self:
        return cls(**{field: series[name] for field, name in names.items()})


class Handles(_Places, frozen=True, gc=False):
    """Where a worker counts the calls of one target."""

    requests_2xx: int
    requests_4xx: int
    requests_429: int
    requests_499: int
    requests_5xx: int
    retries: int
    breaker_opened: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_nano: int
    bytes_in: int
    bytes_out: int
    duration: int
    first_token: int
    overhead: int

    @classmethod
    def find(cls, series: Mapping[str, int], model: str = NONE, provider: str = NONE, target: str = NONE) -> Self:
        """The places of a target, or those of ``other`` when it was given none."""
        names = _target_series(model, provider, target)
        if names["requests_2xx"] not in series:
            names = _target_series(OTHER, OTHER, OTHER)
        return cls._of(series, names)

    def requests(self, status: int) -> int:
        """The place of the requests counter for a final status."""
        if 200 <= status < 400:
            return self.requests_2xx
        if status == 429:
            return self.requests_429
        if status == 499:
            return self.requests_499
        return self.requests_4xx if 400 <= status < 500 else self.requests_5xx


_TARGET_FIELDS: dict[str, tuple[str, ...]] = {
    **{f"requests_{status}": ("fastgw_requests_total", status) for status in ("2xx", "4xx", "429", "499", "5xx")},
    "retries": ("fastgw_retries_total",),
    "breaker_opened": ("fastgw_breaker_opened_total",),
    "input_tokens": ("fastgw_input_tokens_total",),
    "output_tokens": ("fastgw_output_tokens_total",),
    "cached_tokens": ("fastgw_cached_tokens_total",),
    "cost_nano": ("fastgw_cost_dollars_total",),
    "bytes_in": ("fastgw_request_bytes_total",),
    "bytes_out": ("fastgw_response_bytes_total",),
    "duration": ("fastgw_request_duration_seconds",),
    "first_token": ("fastgw_first_token_seconds",),
    "overhead": ("fastgw_overhead_seconds",),
}


def _target_series(model: str, provider: str, target: str) -> dict[str, str]:
    return {
        field: series_name(metric, model, provider, target, *more) for field, (metric, *more) in _TARGET_FIELDS.items()
    }


class ProcessHandles(_Places, frozen=True, gc=False):
    """Where a process counts what belongs to no target."""

    connections_opened: int
    connections_reused: int
    connections_failed: int
    queue_refused: int
    credential_failures: int
    refusals_gateway: int
    refusals_tenant: int
    refusals_team: int
    refusals_key: int
    refusals_model: int
    refusals_target: int
    overshoot_tokens: int
    overshoot_nano: int
    soft_exceeded: int
    calls_reaped: int
    calls_shed: int
    records_written: int
    records_shed: int
    records_dropped: int
    log_lines_dropped: int
    reloads_ok: int
    reloads_failed: int
    worker_restarts: int

    @classmethod
    def find(cls, series: Mapping[str, int]) -> Self:
        """The process-wide places, which every registry has."""
        return cls._of(series, _PROCESS_SERIES)


_PROCESS_SERIES: dict[str, str] = {
    "connections_opened": "fastgw_upstream_connections_opened_total",
    "connections_reused": "fastgw_upstream_connections_reused_total",
    "connections_failed": "fastgw_upstream_connections_failed_total",
    "queue_refused": "fastgw_upstream_queue_refused_total",
    "credential_failures": "fastgw_credential_failures_total",
    **{f"refusals_{level}": series_name("fastgw_limit_refusals_total", level) for level in _LEVELS},
    "overshoot_tokens": "fastgw_token_overshoot_total",
    "overshoot_nano": "fastgw_budget_overshoot_dollars_total",
    "soft_exceeded": "fastgw_soft_budget_exceeded_total",
    "calls_reaped": "fastgw_calls_reaped_total",
    "calls_shed": "fastgw_calls_shed_total",
    "records_written": "fastgw_records_written_total",
    "records_shed": "fastgw_records_shed_total",
    "records_dropped": "fastgw_records_dropped_total",
    "log_lines_dropped": "fastgw_log_lines_dropped_total",
    **{f"reloads_{result}": series_name("fastgw_config_reloads_total", result) for result in ("ok", "failed")},
    "worker_restarts": "fastgw_worker_restarts_total",
}


class Adder(Protocol):
    """The part of a table's lane that counting needs."""

    def add(self, counter: int, n: int) -> None:
        """Add ``n`` to a counter."""

    def add_all(self, counters: tuple[int, ...], amounts: tuple[int, ...]) -> None:
        """Add each amount to its counter."""

    def observe(self, base: int, value: int) -> None:
        """Count ``value``, in microseconds, in the histogram at ``base``."""


class Sums(Protocol):
    """The part of a table that a scrape needs."""

    def counters_sum(self, start: int, n: int) -> list[int]:
        """Sums of ``n`` counters over all lanes."""


def account(lane: Adder, at: Handles, record: Record) -> None:
    """Count one finished call from its record; the histograms only where there is something to time."""
    lane.add_all(
        (
            at.requests(record.status),
            at.retries,
            at.input_tokens,
            at.output_tokens,
            at.cached_tokens,
            at.cost_nano,
            at.bytes_in,
            at.bytes_out,
        ),
        (
            1,
            max(asked(record.attempts) - 1, 0) if len(record.attempts) > 1 else 0,
            record.input_tokens,
            record.output_tokens,
            record.cached_tokens,
            record.cost_nano or 0,
            record.bytes_in,
            record.bytes_out,
        ),
    )
    lane.observe(at.duration, int(record.total_ms * 1000))
    if record.first_token_ms is not None:
        lane.observe(at.first_token, int(record.first_token_ms * 1000))
    lane.observe(at.overhead, record.overhead_us)


class Mirror:
    """Brings a count kept in the process (spool shed, log lines dropped) into the table, from a timer."""

    def __init__(self, counter: int) -> None:
        self._counter = counter
        self._published = 0

    def publish(self, lane: Adder, count: int) -> None:
        """Add what ``count`` grew by since the last time."""
        if count != self._published:
            lane.add(self._counter, count - self._published)
            self._published = count


class RegistryError(ValueError):
    """A stored registry that does not fit this build or this table; begin a new one and ``rebase`` it."""


class _Stored(Struct, forbid_unknown_fields=True):
    histogram_words: int
    size: int
    series: dict[str, int]
    baseline: dict[int, int]


class SeriesRegistry:
    """Gives series their places in the table's counters. Append-only: a place once given is never another's.

    The table's counters outlive a restart, and so must the registry: keep ``dump()`` beside the table, written before
    a plan that uses its places is published. Where it was lost, begin a new one and ``rebase`` it on the table.

    Args:
        capacity: counters in one stripe of the table.

    Attributes:
        series: place by full series name; what the plan carries to workers.
        overflowed: targets that found no room and are counted as ``other``.

    Raises:
        RegistryError: the capacity does not even hold the fixed series.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.series: dict[str, int] = {}
        self.size = 0
        self.overflowed = 0
        self._baseline: dict[int, int] = {}
        self._add_fixed()

    def _add_fixed(self) -> None:
        fixed = [*_PROCESS_SERIES.values()]
        for label in (NONE, OTHER):
            fixed += _target_series(label, label, label).values()
        if not self._add(fixed):
            raise RegistryError(f"{self.capacity} counters are too few for the gateway's own metrics")

    def _add(self, names: list[str]) -> bool:
        """All of the names or none."""
        new = [name for name in names if name not in self.series]
        if self.size + sum(_words(name) for name in new) > self.capacity:
            return False
        for name in new:
            self.series[name] = self.size
            self.size += _words(name)
        return True

    def target(self, model: str, provider: str, target: str) -> bool:
        """Give the series of a target their places, if they have none; False (and counted) when there is no room."""
        added = self._add(list(_target_series(model, provider, target).values()))
        self.overflowed += not added
        return added

    def rebase(self, table: Sums) -> None:
        """Take what the table's counters hold now as zero."""
        self._baseline = {place: n for place, n in enumerate(table.counters_sum(0, self.capacity)) if n}

    def sums(self, table: Sums) -> list[int]:
        """The counters of all places given so far."""
        counts = table.counters_sum(0, self.size)
        for place, base in self._baseline.items():
            # Below its base the counter was begun anew with the table: what it holds is all there is.
            if place < len(counts) and counts[place] >= base:
                counts[place] -= base
        return counts

    def dump(self) -> bytes:
        """The registry as bytes, for ``load``."""
        return msgspec.json.encode(_Stored(shared.HISTOGRAM_WORDS, self.size, self.series, self._baseline))

    @classmethod
    def load(cls, data: bytes, capacity: int) -> Self:
        """A registry as it was dumped, with the fixed series of this version added.

        Raises:
            RegistryError: broken, made with other histograms, or larger than the table.
        """
        try:
            stored = msgspec.json.decode(data, type=_Stored)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise RegistryError(f"not a stored series registry: {error}") from error
        if stored.histogram_words != shared.HISTOGRAM_WORDS:
            raise RegistryError("the stored series registry was made with other histogram buckets")
        _check_places(stored, capacity)
        registry = cls(capacity)
        registry.series, registry.size, registry._baseline = stored.series, stored.size, stored.baseline
        registry._add_fixed()
        return registry


def _check_places(stored: _Stored, capacity: int) -> None:
    end = 0
    for name, place in sorted(stored.series.items(), key=lambda item: item[1]):
        if place < end or name.partition("{")[0] not in METRICS:
            raise RegistryError(f"the stored series registry is inconsistent at {name[:200]}")
        end = place + _words(name)
    if not end <= stored.size <= capacity:
        raise RegistryError(f"the stored series registry needs {stored.size} counters and the table has {capacity}")


def _words(name: str) -> int:
    return shared.HISTOGRAM_WORDS if METRICS[name.partition("{")[0]].kind == "histogram" else 1


def render(table: Sums, registry: SeriesRegistry, extra: Mapping[str, float] | None = None) -> bytes:
    """All metrics in Prometheus text exposition format 0.0.4 (``text/plain; version=0.0.4; charset=utf-8``).

    Args:
        table: the shared table, for the sums of all stripes.
        registry: the places.
        extra: value by full series name (``series_name``) for gauges; a counter's value is added to the table's.

    Raises:
        KeyError: an extra series that is not in the catalogue.
    """
    values: dict[str, float] = {series_name("fastgw_metric_series_overflow_total"): registry.overflowed}
    for name, value in (extra or {}).items():
        values[name] = values.get(name, 0) + value
    families: dict[str, list[str]] = {metric.name: [] for metric in CATALOGUE}
    counts = registry.sums(table)
    for name, place in registry.series.items():
        metric = METRICS[name.partition("{")[0]]
        if metric.kind == "histogram":
            families[metric.name] += _histogram(name, counts[place : place + shared.HISTOGRAM_WORDS])
        else:
            families[metric.name].append(f"{name} {_scaled(counts[place] + values.pop(name, 0), metric.unit)}")
    for name, value in values.items():
        families[name.partition("{")[0]].append(f"{name} {value}")
    return "".join(_exposition(families)).encode()


def _exposition(families: Mapping[str, list[str]]) -> Iterator[str]:
    for name, lines in families.items():
        if lines:
            metric = METRICS[name]
            yield f"# HELP {name} {metric.help}\n# TYPE {name} {metric.kind}\n"
            yield "\n".join(lines) + "\n"


def _scaled(value: float, unit: int) -> str:
    """Exact for integers: a sum of nano-dollars must not lose its last digits in a float."""
    if unit == 1:
        return str(value)
    if not isinstance(value, int):
        return str(value / unit)
    whole, rest = divmod(value, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}d}"


def _histogram(name: str, words: list[int]) -> Iterator[str]:
    family, _, labels = name.partition("{")
    inner = labels[:-1] + "," if labels else ""
    cumulative = 0
    for bound, count in zip(_BOUNDS, words, strict=False):
        cumulative += count
        yield f'{family}_bucket{{{inner}le="{bound}"}} {cumulative}'
    suffix = "{" + labels if labels else ""
    yield f"{family}_sum{suffix} {_scaled(words[-1], _MICRO)}"
    # Not the stored count: read a moment apart it could differ from the +Inf bucket, and the two must agree.
    yield f"{family}_count{suffix} {cumulative}"


_BOUNDS: tuple[str, ...] = (
    *(_scaled(bound, _MICRO).rstrip("0").rstrip(".") for bound in shared.HISTOGRAM_BOUNDS_US),
    "+Inf",
)
