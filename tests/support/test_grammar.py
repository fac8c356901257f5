"""The grammar checker accepts what real vendors send and finds each kind of damage."""

import json
from typing import Any

import pytest

from tests.support.grammar import chat_stream_problems, check_chat_stream, sse_events

BASE = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
DONE = "[DONE]"
Event = dict[str, Any] | str


def step(delta: dict[str, Any], finish: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return BASE | {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]} | more


def role(index: int = 0, **more: Any) -> dict[str, Any]:
    return step({"role": "assistant", "content": ""}, index=index, **more)


def tool(number: int, **fields: Any) -> dict[str, Any]:
    return step({"tool_calls": [{"index": number} | fields]})


def first_tool(number: int, arguments: str = "") -> dict[str, Any]:
    return tool(number, id=f"call_{number}", type="function", function={"name": "f", "arguments": arguments})


def raw(*events: Event) -> bytes:
    texts = [event if isinstance(event, str) else json.dumps(event) for event in events]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


GOOD = [role(), step({"content": "a"}), step({}, "stop"), DONE]
USED = [role(usage=None), step({}, "stop", usage=None), BASE | {"choices": [], "usage": USAGE}, DONE]


@pytest.mark.parametrize(
    ("events", "asked"),
    [
        (GOOD, False),
        (USED, True),
        ([role(0), role(1), step({"content": "a"}, index=1), step({}, "stop", 0), step({}, "length", 1), DONE], False),
        ([role(), first_tool(0), tool(0, function={"arguments": '{"a"'}), first_tool(1, "{}"),
          tool(0, function={"arguments": ":1}"}), step({}, "tool_calls"), DONE], False),
        ([{"choices": [], "id": "", "created": 0, "model": "", "prompt_filter_results": []}, *GOOD], False),
        ([role(), step({"content": "a"}), {"error": {"message": "m"}}], False),
        ([role() | {"obfuscation": "xyz"}, *GOOD[1:]], False),
    ],
)  # fmt: skip
def test_good_streams(events: list[Event], asked: bool) -> None:
    assert chat_stream_problems(raw(*events), usage_asked=asked) == []


@pytest.mark.parametrize(
    ("events", "asked", "problem"),
    [
        (GOOD[:-1], False, "no [DONE]"),
        ([*GOOD, DONE], False, "event after [DONE]"),
        ([*GOOD[:2], DONE], False, "never finished"),
        ([DONE], False, "no choices at all"),
        (GOOD[1:], False, "does not begin with the role"),
        ([role(), *GOOD], False, "says its role twice"),
        ([*GOOD[:3], step({"content": "b"}), DONE], False, "goes on after its finish"),
        ([role(), step({"content": "a"}, "stop"), DONE], False, "finishes with a delta"),
        ([role(), step({}, "done"), DONE], False, "finish_reason 'done'"),
        ([role(), step({}, "stop") | {"id": "other"}, DONE], False, "id changed"),
        ([role(), step({}, "stop") | {"created": 2}, DONE], False, "created changed"),
        ([role() | {"object": "chat.completion"}, DONE], False, "object is"),
        ([role(), "{", DONE], False, "not JSON"),
        ([role(), "[]", DONE], False, "not an object"),
        ([role(), BASE, DONE], False, "without choices"),
        ([role(), BASE | {"choices": [{}]}, DONE], False, "malformed choice"),
        (USED, False, "nobody asked"),
        (GOOD, True, "usage: null"),
        ([*USED[:2], DONE], True, "never came"),
        ([USED[0], USED[2], USED[1], DONE], True, "usage before every choice finished"),
        ([*USED[:3], USED[2], DONE], True, "after the usage chunk"),
        ([*USED[:2], BASE | {"choices": [], "usage": USAGE | {"total_tokens": 4}}, DONE], True, "does not add up"),
        ([role(), BASE | {"choices": []}, step({}, "stop"), DONE], False, "empty choices"),
        ([role(), {"error": {}}, DONE], False, "[DONE] after an error"),
        ([role(), {"error": {}}, step({}, "stop")], False, "after an error event"),
        ([role(), first_tool(1), step({}, "tool_calls"), DONE], False, "out of order"),
        ([role(), tool(0, function={"arguments": "{}"}), step({}, "tool_calls"), DONE], False, "incomplete"),
        ([role(), first_tool(0), first_tool(0), step({}, "tool_calls"), DONE], False, "named twice"),
        ([role(), first_tool(0, "{"), step({}, "tool_calls"), DONE], False, "not JSON"),
        ([role(), step({"tool_calls": [{}]}), step({}, "stop"), DONE], False, "without index"),
        ([*GOOD[:2], {"choices": [], "prompt_filter_results": []}, *GOOD[2:]], False, "not in the first chunk"),
    ],
)
def test_bad_streams(events: list[Event], asked: bool, problem: str) -> None:
    problems = chat_stream_problems(raw(*events), usage_asked=asked)
    assert any(problem in found for found in problems), problems


def test_every_truncation_is_found() -> None:
    whole = raw(*GOOD)
    assert [k for k in range(len(whole)) if chat_stream_problems(whole[:k]) == []] == []


def test_what_a_stream_said() -> None:
    stream = check_chat_stream(raw(role(0), role(1), step({"content": "a"}, index=1), step({"content": "b"}, index=1)))
    assert (stream.text(0), stream.text(1), stream.text(2)) == ("", "ab", "")


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_framing(end: bytes) -> None:
    data = end.join([b": comment", b"data: one", b"data:two", b"", b"", b"data: \xe2\x80\xa8", b"", b""])
    assert sse_events(data) == (["one\ntwo", "\u2028"], [])


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"data: a", "inside a line"),
        (b"data: a\n", "no empty line"),
        (b"event: x\ndata: a\n\n", "unexpected field"),
        (b"data: \xff\n\n", "not UTF-8"),
    ],
)
def test_framing_problems(data: bytes, problem: str) -> None:
    assert any(problem in found for found in sse_events(data)[1])
