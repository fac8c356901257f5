"""The grammar of OpenAI's chat stream, as a checker: `S0 → ROLE → DELTA* → FINISH → [USAGE] → [DONE]`.

Written from the published reference and recorded streams, and on purpose without any code of the gateway.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

_LINE_END = re.compile(rb"\r\n|\n|\r")
_FINISHES = {"stop", "length", "tool_calls", "content_filter", "function_call"}
_SAME = ("id", "created", "model", "object")


def sse_events(raw: bytes) -> tuple[list[str], list[str]]:
    """(data of each event, problems) of a server-sent event stream; comments are allowed, other fields are not."""
    events: list[str] = []
    problems: list[str] = []
    data: list[str] = []
    lines = _LINE_END.split(raw)
    if lines.pop() != b"":
        problems.append("the stream ends inside a line")
    for line in lines:
        if not line:
            if data:
                events.append("\n".join(data))
            data = []
            continue
        name, _, value = line.partition(b":")
        if name == b"data":
            try:
                data.append(value.removeprefix(b" ").decode())
            except UnicodeDecodeError:
                problems.append(f"not UTF-8: {value[:60]!r}")
        elif name:
            problems.append(f"unexpected field {line[:60]!r}")
    if data:
        problems.append("the last event has no empty line after it")
    return events, problems


@dataclass(slots=True)
class _Choice:
    """What one choice has said so far."""

    begun: bool = False
    finish: str | None = None
    text: str = ""
    tools: dict[int, dict[str, str]] = field(default_factory=dict)


@dataclass(slots=True)
class ChatStream:
    """A checked stream: what is wrong with it and what it said."""

    problems: list[str] = field(default_factory=list)
    choices: dict[int, _Choice] = field(default_factory=dict)
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    done: bool = False
    chunks: int = 0
    _first: dict[str, Any] | None = None

    def text(self, index: int = 0) -> str:
        """All content of a choice."""
        return self.choices[index].text if index in self.choices else ""

    def feed(self, data: str, usage_asked: bool) -> None:
        """Check one event."""
        if self.done:
            self._wrong(f"event after [DONE]: {data[:60]}")
        elif data == "[DONE]":
            self.done = True
        else:
            try:
                chunk = json.loads(data)
            except ValueError:
                self._wrong(f"not JSON: {data[:60]}")
                return
            if not isinstance(chunk, dict):
                self._wrong(f"not an object: {data[:60]}")
            elif self.error is not None:
                self._wrong("event after an error event")
            elif "error" in chunk:
                self.error = chunk["error"]
            else:
                self._chunk(chunk, usage_asked)

    def _wrong(self, problem: str) -> None:
        self.problems.append(problem)

    def _chunk(self, chunk: dict[str, Any], usage_asked: bool) -> None:
        self.chunks += 1
        choices = chunk.get("choices")
        if not isinstance(choices, list):
            self._wrong("chunk without choices")
            return
        if not choices and "prompt_filter_results" in chunk:  # Azure's preface, with empty id and model
            if self.chunks > 1:
                self._wrong("prompt_filter_results not in the first chunk")
            return
        self._same(chunk)
        self._usage(chunk, choices, usage_asked)
        for entry in choices:
            self._entry(entry)

    def _same(self, chunk: dict[str, Any]) -> None:
        if chunk.get("object") != "chat.completion.chunk":
            self._wrong(f"object is {chunk.get('object')!r}")
        if self._first is None:
            self._first = chunk
            missing = [name for name in _SAME if name not in chunk]
            if missing:
                self._wrong(f"first chunk without {missing}")
        for name in _SAME:
            if chunk.get(name) != self._first.get(name):
                self._wrong(f"{name} changed from {self._first.get(name)!r} to {chunk.get(name)!r}")

    def _usage(self, chunk: dict[str, Any], choices: list[Any], asked: bool) -> None:
        if self.usage is not None:
            self._wrong("chunk after the usage chunk")
        usage = chunk.get("usage")
        if not asked:
            if "usage" in chunk:
                self._wrong("usage though nobody asked")
            if not choices:
                self._wrong("empty choices without usage")
            return
        if choices:
            if usage is not None or "usage" not in chunk:
                self._wrong("a chunk with choices must say usage: null")
        elif not isinstance(usage, dict):
            self._wrong("empty choices without usage")
        else:
            if any(choice.finish is None for choice in self.choices.values()):
                self._wrong("usage before every choice finished")
            if usage.get("total_tokens") != usage.get("prompt_tokens", 0) + usage.get("completion_tokens", 0):
                self._wrong(f"usage does not add up: {usage}")
            self.usage = usage

    def _entry(self, entry: dict[str, Any]) -> None:
        index, delta, finish = entry.get("index"), entry.get("delta"), entry.get("finish_reason")
        if not isinstance(index, int) or not isinstance(delta, dict) or "finish_reason" not in entry:
            self._wrong(f"malformed choice: {entry}")
            return
        choice = self.choices.setdefault(index, _Choice())
        if choice.finish is not None:
            self._wrong(f"choice {index} goes on after its finish")
        if not choice.begun:
            choice.begun = True
            if delta.get("role") != "assistant" or delta.get("content") not in ("", None):
                self._wrong(f"choice {index} does not begin with the role: {delta}")
        elif "role" in delta:
            self._wrong(f"choice {index} says its role twice")
        if finish is not None:
            if finish not in _FINISHES:
                self._wrong(f"finish_reason {finish!r}")
            if delta:
                self._wrong(f"choice {index} finishes with a delta: {delta}")
            choice.finish = finish
        choice.text += delta.get("content") or ""
        for fragment in delta.get("tool_calls") or ():
            self._fragment(index, choice, fragment)

    def _fragment(self, index: int, choice: _Choice, fragment: dict[str, Any]) -> None:
        number, function = fragment.get("index"), fragment.get("function") or {}
        if not isinstance(number, int):
            self._wrong(f"tool fragment without index: {fragment}")
        elif number not in choice.tools:
            if number != len(choice.tools):
                self._wrong(f"choice {index}: tool {number} begins out of order")
            if not fragment.get("id") or fragment.get("type") != "function" or not function.get("name"):
                self._wrong(f"choice {index}: first fragment of tool {number} is incomplete: {fragment}")
            if function.get("arguments") is None:
                self._wrong(f"choice {index}: first fragment of tool {number} has no arguments")
            choice.tools[number] = {
                "id": fragment.get("id") or "", "name": function.get("name") or "",
                "arguments": function.get("arguments") or "",
            }  # fmt: skip
        else:
            if "id" in fragment or "name" in function:
                self._wrong(f"choice {index}: tool {number} is named twice")
            choice.tools[number]["arguments"] += function.get("arguments") or ""

    def end(self, usage_asked: bool) -> None:
        """Check what must have come by now."""
        if self.error is not None:
            if self.done:
                self._wrong("[DONE] after an error event")
            return
        if not self.done:
            self._wrong("no [DONE]")
        if not self.choices:
            self._wrong("no choices at all")
        for index, choice in self.choices.items():
            if choice.finish is None:
                self._wrong(f"choice {index} never finished")
            for number, tool in choice.tools.items():
                try:
                    json.loads(tool["arguments"] or "{}")
                except ValueError:
                    self._wrong(f"choice {index}: arguments of tool {number} are not JSON")
        if usage_asked and self.usage is None:
            self._wrong("usage was asked for and never came")


def check_chat_stream(raw: bytes, *, usage_asked: bool = False) -> ChatStream:
    """Check the bytes of a whole chat stream (framing of HTTP removed)."""
    events, problems = sse_events(raw)
    stream = ChatStream(problems=problems)
    for data in events:
        stream.feed(data, usage_asked)
    stream.end(usage_asked)
    return stream


def chat_stream_problems(raw: bytes, *, usage_asked: bool = False) -> list[str]:
    """What is wrong with a whole chat stream; empty when nothing is."""
    return check_chat_stream(raw, usage_asked=usage_asked).problems
