"""Generated chats and replies, and streams gathered into replies, for the round trips of a dialect."""

import json

from hypothesis import strategies as st
from msgspec import Raw

from fastgw.call import Usage
from fastgw.dialects import hub

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
WORD = st.text("abcdefgh_-0123456789", min_size=1, max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
ARGUMENTS = st.one_of(
    st.dictionaries(TEXT, JSON, max_size=3).map(json.dumps),
    st.sampled_from(['{"a": 1e400}', '{"b":9007199254740993,"a":"\\u00e9\\/"}', '{ "z" : 1.0 , "a" : 2 }', "{}"]),
)
SCHEMA = st.dictionaries(WORD, JSON, max_size=2).map(lambda value: Raw(json.dumps(value).encode()))


def raw(value):
    return Raw(json.dumps(value).encode())


@st.composite
def calls(draw, count):
    """Calls with ids of their own."""
    ids = draw(st.lists(WORD, min_size=count, max_size=count, unique=True))
    return [hub.ToolCall(f"call_{one}", draw(WORD), draw(ARGUMENTS)) for one in ids]


def usages():
    """Usage that obeys the laws: the parts are within their wholes."""
    some = st.integers(0, 10**6)
    return st.builds(
        lambda fresh, cached, written, said, thought: Usage(
            fresh + cached + written, said + thought, cached, written, thought
        ),
        *[some] * 5,
    )


def gather(events):
    """(the reply that a stream amounts to, whether it said that it was done)."""
    parts, calls, usage, stop, start, done = [], {}, None, None, hub.Start(), False
    for event in events:
        kind = type(event)
        if kind is hub.Start:
            start = event
        elif kind is hub.TextDelta:
            _grow(parts, hub.Text, event.text)
        elif kind is hub.RefusalDelta:
            _grow(parts, hub.Refusal, event.text)
        elif kind is hub.ThinkDelta:
            _think(parts, event)
        elif kind is hub.ToolStart:
            calls[event.index] = hub.ToolCall(event.id, event.name, "", event.signature)
            parts.append(calls[event.index])
        elif kind is hub.ToolDelta:
            calls[event.index].arguments += event.fragment
        elif kind is hub.OpaqueDelta and event.kind == "response.output_item.done":
            parts.append(
                hub.Opaque(event.dialect, json.loads(bytes(event.raw))["type"], raw(json.loads(bytes(event.raw))))
            )
        elif kind is hub.UsageSeen:
            usage = hub.merge_usage(usage, event.usage)
        elif kind is hub.Stop:
            stop = event
        done = done or kind is hub.Done
    choice = hub.Choice(parts, stop and stop.reason, stop and stop.native, stop and stop.sequence)
    return hub.Reply(start.id, start.model, [choice], usage, start.created, start.service_tier, start.fingerprint), done


def _grow(parts, kind, text):
    if parts and type(parts[-1]) is kind:
        parts[-1].text += text
    else:
        parts.append(kind(text))


def _think(parts, event):
    last = parts[-1] if parts else None
    if type(last) is not hub.Thinking or last.signature is not None or last.redacted is not None:
        last = hub.Thinking()
        parts.append(last)
    last.text += event.text
    last.signature, last.redacted = event.signature, event.redacted


def merged(reply):
    """The reply as a stream can tell it: adjacent texts are one, citations and log probabilities apart."""
    parts = []
    for part in reply.choices[0].parts:
        if type(part) in (hub.Text, hub.Refusal):
            _grow(parts, type(part), part.text)
        elif type(part) is hub.Opaque:
            parts.append(hub.Opaque(part.dialect, part.kind, raw(json.loads(bytes(part.raw)))))
        else:
            parts.append(part)
    first = reply.choices[0]
    choice = hub.Choice(parts, first.stop, first.native_stop, first.stop_sequence)
    return hub.Reply(reply.id, reply.model, [choice], reply.usage, reply.created, reply.service_tier)


def events_of(reply, cut=3):
    """A stream that tells `reply`, its texts in pieces of `cut` characters."""
    yield hub.Start(reply.id, reply.model, reply.created, reply.service_tier)
    count = 0
    for part in reply.choices[0].parts:
        kind = type(part)
        if kind is hub.Text:
            yield from (hub.TextDelta(piece) for piece in pieces(part.text, cut))
        elif kind is hub.Refusal:
            yield from (hub.RefusalDelta(piece) for piece in pieces(part.text, cut))
        elif kind is hub.Thinking:
            yield from (hub.ThinkDelta(piece) for piece in pieces(part.text, cut))
            yield hub.ThinkDelta("", part.signature, part.redacted)
        elif kind is hub.ToolCall:
            yield hub.ToolStart(count, part.id, part.name, signature=part.signature)
            yield from (hub.ToolDelta(count, piece) for piece in pieces(part.arguments, cut))
            count += 1
    if reply.usage is not None:
        yield hub.UsageSeen(reply.usage)
    yield hub.Stop(reply.choices[0].stop, native=reply.choices[0].native_stop)
    yield hub.Done()


def pieces(text, size):
    return [text[at : at + size] for at in range(0, len(text), size)]
