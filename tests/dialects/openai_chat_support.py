"""Streams of OpenAI's chat dialect fed to a reader, and events gathered into what they amount to."""

import json
from pathlib import Path

from fastgw.dialects import framing, hub
from fastgw.dialects.openai_chat.codec import CODEC

FIXTURES = Path(__file__).parent.parent / "fixtures" / "openai_chat"


def frames(raw, size=None):
    """The data of the events of a stream that arrives in pieces of `size` bytes."""
    tail, found = b"", []
    for at in range(0, len(raw), size or len(raw)):
        block, tail = framing.complete(tail + raw[at : at + (size or len(raw))])
        found += framing.events(block)
    assert tail.strip() == b""
    return [data for event in found if (data := framing.payload(event)) is not None]


def read_stream(raw, size=None):
    """The events of a whole stream."""
    reader, events = CODEC.reader(), []
    for data in frames(raw, size):
        events += reader.feed("", data)
    return events + reader.end()


def write_stream(events, *, stream_usage=True, model="asked"):
    writer = CODEC.writer(model=model, stream_usage=stream_usage)
    return b"".join([writer.feed(event) for event in events]) + writer.end()


def gather(events):
    """The reply a stream amounts to: its parts in the order of a whole message."""
    start = next((e for e in events if type(e) is hub.Start), hub.Start())
    usage, told = None, {}
    for event in events:
        kind = type(event)
        if kind is hub.UsageSeen:
            usage = hub.merge_usage(usage, event.usage)
            continue
        if kind in (hub.Start, hub.Done, hub.OpaqueDelta):
            continue
        one = told.setdefault(event.choice, {"text": "", "refusal": "", "thoughts": [], "calls": {}, "stop": None})
        if kind is hub.TextDelta:
            one["text"] += event.text
            one["signature"] = event.signature or one.get("signature")
        elif kind is hub.RefusalDelta:
            one["refusal"] += event.text
        elif kind is hub.ThinkDelta:
            _think(one["thoughts"], event)
        elif kind is hub.ToolStart:
            assert event.index == len(one["calls"])
            one["calls"][event.index] = hub.ToolCall(event.id, event.name, "", event.signature)
        elif kind is hub.ToolDelta:
            one["calls"][event.index].arguments += event.fragment
        elif kind is hub.Stop:
            assert one["stop"] is None
            one["stop"] = event
    choices = [_choice(told[index]) for index in sorted(told)]
    return hub.Reply(start.id, start.model, choices, usage, start.created, start.service_tier, start.fingerprint)


def _think(thoughts, event):
    last = thoughts[-1] if thoughts else None
    if last is None or last.signature is not None or last.redacted is not None or event.redacted is not None:
        last = hub.Thinking()
        thoughts.append(last)
    last.text += event.text
    last.signature, last.redacted = event.signature, event.redacted


def _choice(one):
    parts = list(one["thoughts"])
    parts += [hub.Text(one["text"], signature=one["signature"])] if one["text"] else []
    parts += [hub.Refusal(one["refusal"])] if one["refusal"] else []
    parts += one["calls"].values()
    stop = one["stop"]
    return hub.Choice(parts, stop and stop.reason, stop and stop.native, stop and stop.sequence)


def summary(reply):
    """A reply in the words of the `*.expect.json` fixtures."""
    usage = reply.usage
    return {
        "id": reply.id,
        "choices": [_summary(choice) for choice in reply.choices],
        "usage": usage and [usage.input, usage.output, usage.cached, usage.cache_write, usage.reasoning],
    }


def _summary(choice):
    found = {
        "text": "".join(p.text for p in choice.parts if type(p) is hub.Text),
        "thinking": "".join(p.text for p in choice.parts if type(p) is hub.Thinking),
        "calls": [[p.id, p.name, p.arguments] for p in choice.parts if type(p) is hub.ToolCall],
        "stop": choice.stop,
        "native": choice.native_stop,
    }
    for part in choice.parts:
        if type(part) is hub.Refusal:
            found["refusal"] = part.text
        if type(part) is hub.Thinking:
            found |= {"signature": part.signature} if part.signature else {}
            found |= {"redacted": part.redacted} if part.redacted else {}
    signatures = [p.signature for p in choice.parts if type(p) is hub.ToolCall]
    return found | ({"call_signatures": signatures} if any(signatures) else {})


def expected(path):
    found = json.loads((FIXTURES / f"{path.name.split('.')[0]}.expect.json").read_text())
    counts = [choice.pop("logprobs", 0) for choice in found["choices"]]
    return found, counts
