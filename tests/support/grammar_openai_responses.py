"""The grammar of a Responses stream, as a checker: `created → in_progress → ITEM* → completed | incomplete | failed`.

Written from the published reference and the SDK's event types, and on purpose without any code of the gateway.
"""

import json
from typing import Any

_LIFECYCLE = {"response.created": "in_progress", "response.in_progress": "in_progress", "response.queued": "queued"}
_TERMINAL = {
    "response.completed": "completed",
    "response.incomplete": "incomplete",
    "response.failed": "failed",
}
_RESPONSE_FIELDS = (
    *("id", "object", "created_at", "status", "model", "output", "usage", "error", "incomplete_details"),
    *("parallel_tool_calls", "tool_choice", "tools", "text", "reasoning", "instructions", "metadata", "temperature"),
    *("top_p", "truncation", "store", "previous_response_id", "max_output_tokens"),
)
_USAGE_FIELDS = ("input_tokens", "input_tokens_details", "output_tokens", "output_tokens_details", "total_tokens")


def frames(raw: bytes) -> tuple[list[tuple[str, dict[str, Any]]], list[str]]:
    """((event name, data) of each frame, problems): LF only, exactly one `event` and one `data` line a frame."""
    found, problems = [], []
    if raw and not raw.endswith(b"\n\n"):
        problems.append("the stream ends inside a frame")
    for block in raw.split(b"\n\n")[:-1]:
        lines = block.split(b"\n")
        if len(lines) != 2 or not lines[0].startswith(b"event: ") or not lines[1].startswith(b"data: "):
            problems.append(f"not an event and a data line: {block[:60]!r}")
            continue
        found.append((lines[0][7:].decode(), json.loads(lines[1][6:])))
    return found, problems


class ResponsesStream:
    """A checked stream: what is wrong with it and what it said."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.items: list[dict[str, Any]] = []
        self.terminal: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self._number = -1
        self._id: str | None = None
        self._stage = 0
        self._item: dict[str, Any] | None = None
        self._parts: list[dict[str, Any]] = []
        self._part: dict[str, Any] | None = None
        self._said = ""
        self._told = False
        self._ids: set[str] = set()

    def wrong(self, what: str) -> None:
        self.problems.append(f"frame {self._number}: {what}")

    def expect(self, what: str, seen: object, wanted: object) -> None:
        if seen != wanted:
            self.wrong(f"{what} is {seen!r:.80} and not {wanted!r:.80}")

    def feed(self, name: str, data: dict[str, Any]) -> None:
        self._number += 1
        self.expect("type", data.get("type"), name)
        self.expect("sequence_number", data.get("sequence_number"), self._number)
        if self.terminal is not None:
            self.wrong(f"{name} after the end")
        if self.error is not None and name != "response.failed":
            self.wrong(f"{name} after an error")
        if name == "error":
            self.error = data
            self.expect("error's fields", {"code", "message", "param"} <= data.keys(), True)
        elif name in _LIFECYCLE:
            self.lifecycle(name, data["response"])
        elif name in _TERMINAL:
            self.end(name, data["response"])
        elif self._stage < 2:
            self.wrong(f"{name} before in_progress")
        else:
            getattr(self, "on_" + name.replace(".", "_"), self.on_hosted_tool)(data)

    def lifecycle(self, name: str, response: dict[str, Any]) -> None:
        self.expect("stage", ("response.created", "response.in_progress")[min(self._stage, 1)], name)
        self._stage += 1
        self.response(response, _LIFECYCLE[name])
        self.expect("output", response["output"], [])

    def response(self, response: dict[str, Any], status: str) -> None:
        self.expect("missing fields", [name for name in _RESPONSE_FIELDS if name not in response], [])
        self.expect("object", response.get("object"), "response")
        self.expect("status", response.get("status"), status)
        self._id = self._id or response["id"]
        self.expect("id", response["id"], self._id)
        if not self._id.startswith("resp_"):
            self.wrong(f"id {self._id!r}")

    def end(self, name: str, response: dict[str, Any]) -> None:
        self.terminal = response
        self.response(response, _TERMINAL[name])
        if name != "response.failed" and self._item is not None:
            self.wrong("an item is still open")
        self.expect("output", response["output"], self.items)
        self.expect("incomplete_details", response["incomplete_details"] is not None, name == "response.incomplete")
        self.expect("error", response["error"] is not None, name == "response.failed")
        usage = response["usage"]
        if usage is not None:
            self.expect("usage's fields", sorted(usage), sorted(_USAGE_FIELDS))
            self.expect("total_tokens", usage["total_tokens"], usage["input_tokens"] + usage["output_tokens"])

    # --- items

    def on_response_output_item_added(self, data: dict[str, Any]) -> None:
        item = data["item"]
        if self._item is not None:
            self.wrong("an item inside another")
        self.expect("output_index", data["output_index"], len(self.items))
        if item.get("id") in self._ids:
            self.wrong(f"id {item['id']!r} twice")
        self._ids.add(item.get("id"))
        empty = {"message": "content", "reasoning": "summary", "function_call": "arguments"}.get(item["type"])
        if empty is not None and item[empty]:
            self.wrong(f"{item['type']} begins with {empty}")
        self._item, self._parts, self._part, self._said, self._told = item, [], None, "", False

    def on_response_output_item_done(self, data: dict[str, Any]) -> None:
        item, begun = data["item"], self._item or {}
        self.expect("output_index", data["output_index"], len(self.items))
        for name in ("id", "type", "call_id", "name", "role"):
            self.expect(f"item's {name}", item.get(name), begun.get(name))
        if self._part is not None:
            self.wrong("a part is still open")
        if item["type"] == "message":
            self.expect("content", item["content"], self._parts)
        elif item["type"] == "reasoning":
            self.expect("summary", item["summary"], self._parts)
        elif item["type"] == "function_call":
            self.expect("arguments", item["arguments"], self._said)
            self.expect("arguments.done", self._told, True)
            json.loads(item["arguments"])
        if item["type"] in ("message", "function_call") and item["status"] not in ("completed", "incomplete"):
            self.wrong(f"status {item['status']!r}")
        self.items.append(item)
        self._item = None

    def on_hosted_tool(self, data: dict[str, Any]) -> None:
        """`response.X_call.searching` and the like, inside the item of type `X_call`."""
        kind = data["type"].split(".")[1]
        if not kind.endswith("_call") or kind in ("message", "function_call"):
            self.wrong(f"unknown frame {data['type']}")
        self.inside(data, kind, None)

    def inside(self, data: dict[str, Any], kind: str, index: str | None) -> None:
        item = self._item or {}
        self.expect("item", item.get("type"), kind)
        self.expect("item_id", data.get("item_id"), item.get("id"))
        self.expect("output_index", data.get("output_index"), len(self.items))
        if index is not None:
            self.expect(index, data[index], len(self._parts))

    def begin(self, data: dict[str, Any], kind: str, index: str, part: dict[str, Any]) -> None:
        self.inside(data, kind, index)
        self.expect("open part", self._part, None)
        self.expect("empty part", data["part"], part)
        self._part, self._said, self._told = data["part"], "", False

    def piece(self, data: dict[str, Any], kind: str, index: str | None, part: str | None) -> None:
        self.inside(data, kind, index)
        if part is not None:
            self.expect("open part", (self._part or {}).get("type"), part)
        self.expect("done before", self._told, False)
        self._said += data["delta"]

    def whole(self, data: dict[str, Any], kind: str, index: str | None, name: str) -> None:
        self.inside(data, kind, index)
        self.expect(name, data[name], self._said)
        self._told = True

    def finish(self, data: dict[str, Any], kind: str, index: str, name: str) -> None:
        self.inside(data, kind, index)
        self.expect(name, data["part"][name], self._said)
        self.expect("done before its part", self._told, True)
        annotations = (self._part or {}).get("annotations", [])
        self.expect("annotations", data["part"].get("annotations", []), annotations)
        self._parts.append(data["part"])
        self._part = None

    def on_response_content_part_added(self, data: dict[str, Any]) -> None:
        text = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        kind = data["part"].get("type")
        self.begin(data, "message", "content_index", {"type": kind, "refusal": ""} if kind == "refusal" else text)

    def on_response_output_text_delta(self, data: dict[str, Any]) -> None:
        self.piece(data, "message", "content_index", "output_text")
        self.expect("logprobs", isinstance(data["logprobs"], list), True)

    def on_response_output_text_done(self, data: dict[str, Any]) -> None:
        self.whole(data, "message", "content_index", "text")

    def on_response_output_text_annotation_added(self, data: dict[str, Any]) -> None:
        self.inside(data, "message", "content_index")
        known = (self._part or {}).setdefault("annotations", [])
        self.expect("annotation_index", data["annotation_index"], len(known))
        known.append(data["annotation"])

    def on_response_refusal_delta(self, data: dict[str, Any]) -> None:
        self.piece(data, "message", "content_index", "refusal")

    def on_response_refusal_done(self, data: dict[str, Any]) -> None:
        self.whole(data, "message", "content_index", "refusal")

    def on_response_content_part_done(self, data: dict[str, Any]) -> None:
        self.finish(data, "message", "content_index", "refusal" if "refusal" in data["part"] else "text")

    def on_response_reasoning_summary_part_added(self, data: dict[str, Any]) -> None:
        self.begin(data, "reasoning", "summary_index", {"type": "summary_text", "text": ""})

    def on_response_reasoning_summary_text_delta(self, data: dict[str, Any]) -> None:
        self.piece(data, "reasoning", "summary_index", "summary_text")

    def on_response_reasoning_summary_text_done(self, data: dict[str, Any]) -> None:
        self.whole(data, "reasoning", "summary_index", "text")

    def on_response_reasoning_summary_part_done(self, data: dict[str, Any]) -> None:
        self.finish(data, "reasoning", "summary_index", "text")

    def on_response_function_call_arguments_delta(self, data: dict[str, Any]) -> None:
        self.piece(data, "function_call", None, None)

    def on_response_function_call_arguments_done(self, data: dict[str, Any]) -> None:
        self.whole(data, "function_call", None, "arguments")


def check(raw: bytes) -> ResponsesStream:
    """The stream, checked; a complete one has a terminal event or an error."""
    found, problems = frames(raw)
    stream = ResponsesStream()
    stream.problems += problems
    for name, data in found:
        stream.feed(name, data)
    if stream.terminal is None and stream.error is None:
        stream.problems.append("the stream does not end")
    return stream


def problems(raw: bytes) -> list[str]:
    """What is wrong with a stream."""
    return check(raw).problems
