"""Writes a request for Gemini.

Features of a target that change what is written:
- `json_schema`: it takes `parametersJsonSchema` and `responseJsonSchema`; else schemas are cut to Gemini's subset.
- `thinking_level`: it takes `thinkingLevel` (Gemini 3); else `thinkingBudget`. See BUDGETS and LEVELS.
- `thought_signatures`: it refuses calls without a signature (Gemini 3). Where the client's dialect or another provider
  lost it, the placeholder that Google documents for this stands in.
- `tool_images`: it takes media inside a functionResponse (Gemini 3); else they stand behind it, in the same content.
- `no_call_ids`: it does not know `id` of calls and results. Ids that the gateway made up are never sent.
- `fetch_urls`: it fetches any URL.

Choices made here: system messages before the first turn, and later ones unless `Target.mid_system`, go into
systemInstruction; with it they stay in place as user contents. Results of one turn stand together in one content, in
the order of the calls. Another provider's thinking goes along as text and without its signature, its redacted thinking
not at all. What bears on no answer (cache marks, names, `user`, `metadata`) is left out and listed in `Target.dropped`
without being refused; all else that Gemini cannot do is given up by name.
"""

import re

from msgspec import Raw

from fastgw.dialects.gemini.media import to_part
from fastgw.dialects.gemini.schema import has_properties, subset
from fastgw.dialects.gemini.wire import (
    MADE_UP,
    NAME,
    SKIP_VALIDATOR,
    Content,
    FunctionCall,
    FunctionResponse,
    Part,
    ResponsePart,
    as_object,
    encode,
    own_signature,
    read_object,
)
from fastgw.dialects.hub import (
    Audio,
    Chat,
    Document,
    Effort,
    Image,
    Invalid,
    Opaque,
    Reasoning,
    Refusal,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Turn,
    Unsupported,
)
from fastgw.dialects.hub import Part as HubPart

BUDGETS: dict[Effort, int] = {
    "none": 0,
    "minimal": 1024,
    "low": 1024,
    "medium": 8192,
    "high": 24576,
    "xhigh": 24576,
    "max": 24576,
}
"""Tokens of thinking for an effort: https://ai.google.dev/gemini-api/docs/openai#thinking."""
LEVELS: dict[Effort, str] = {
    "none": "MINIMAL",
    "minimal": "MINIMAL",
    "low": "LOW",
    "medium": "MEDIUM",
    "high": "HIGH",
    "xhigh": "HIGH",
    "max": "HIGH",
}
"""Levels for an effort. `none` cannot be had from a model with levels: it is given up, and MINIMAL comes nearest."""
TIERS = {"default": "standard", "standard": "standard", "standard_only": "standard", "flex": "flex"}
TIERS["priority"] = "priority"
MAX_STOPS = 5
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}\Z")
_MEDIA = frozenset((Image, Audio, Document))
_WRAPPED = frozenset(("output", "error"))


def write_request(chat: Chat, target: Target) -> bytes:
    """See `codec.Codec`."""
    return encode(request_fields(chat, target))


def request_fields(chat: Chat, target: Target) -> dict[str, object]:
    """The fields of a generateContent request. Raises Unsupported and Invalid."""
    contents = _Contents(target)
    for turn in chat.turns:
        contents.add(turn)
    body: dict[str, object] = {"contents": contents.finish()}
    if contents.system:
        body["systemInstruction"] = Content(contents.system)
    if chat.tools or chat.server_tools:
        body["tools"] = _tools(chat, target)
    config = _generation_config(chat, target)
    if chat.tool_choice is not None:
        _tool_choice(chat.tool_choice, body, target)
    if chat.service_tier not in (None, "auto"):
        tier = TIERS.get(str(chat.service_tier))
        if tier is None:
            target.give_up("service_tier", f"there is no tier {chat.service_tier!r}")
        else:
            body["serviceTier"] = tier
    if config:
        body["generationConfig"] = config
    for key, raw in {**chat.extra, **chat.hints}.items():
        _extra(key, raw, chat, body, target)
    for field, value in (("user", chat.user), ("metadata", chat.metadata)):
        if value is not None:
            note(target, field)
    return body


def note(target: Target, field: str) -> None:
    """List a field that is left out without asking: it bears on no answer."""
    if field not in target.dropped:
        target.dropped.append(field)


def _extra(key: str, raw: Raw, chat: Chat, body: dict[str, object], target: Target) -> None:
    """A field of the client's own dialect: back to its place when that is Gemini's."""
    if chat.origin != NAME:
        if key not in chat.hints:
            target.give_up(key, "the provider has no such field")
        return
    at = body
    *outer, last = key.split(".")
    for name in outer:
        at = at.setdefault(name, {})  # type: ignore[assignment]
    at[last] = raw


class _Contents:
    """Writes turns in order; knows which calls were made, and holds results until their turn is over."""

    __slots__ = ("_calls", "_done", "_results", "_target", "system")

    def __init__(self, target: Target) -> None:
        self.system: list[Part] = []
        self._calls: dict[str, tuple[int, str]] = {}
        self._done: list[Content] = []
        self._results: list[tuple[int, list[Part]]] = []
        self._target = target

    def add(self, turn: Turn) -> None:
        """One turn."""
        if turn.name is not None:
            note(self._target, "messages.name")
        if turn.role == "assistant":
            self._flush()
            parts = self._model(turn.parts)
            if parts:
                self._done.append(Content(parts, "model"))
        elif turn.role == "user":
            self._user(turn.parts)
        else:
            self._system(turn.parts)

    def finish(self) -> list[Content]:
        """All contents. Gemini wants at least one: a system message alone becomes the user's."""
        self._flush()
        if not self._done and self.system:
            self._done.append(Content(self.system, "user"))
            self.system = []
        if not self._done:
            raise Invalid("messages", "must hold at least one message")
        return self._done

    def _system(self, parts: list[HubPart]) -> None:
        written = [part for part in (self._said(part, "system") for part in parts) if part is not None]
        if self._target.mid_system and (self._done or self._results):
            self._flush()
            self._done.append(Content(written, "user"))
        else:
            self.system += written

    def _user(self, parts: list[HubPart]) -> None:
        others: list[Part] = []
        for part in parts:
            if type(part) is ToolResult:
                self._results.append(self._result(part))
            elif (written := self._said(part, "messages")) is not None:
                others.append(written)
        if others:
            self._flush()
            self._done.append(Content(others, "user"))

    def _flush(self) -> None:
        """The results so far become one content, in the order of their calls."""
        if self._results:
            self._results.sort(key=lambda result: result[0])
            self._done.append(Content([part for _, parts in self._results for part in parts], "user"))
            self._results = []

    def _said(self, part: HubPart, field: str) -> Part | None:
        """A part that is no call, result or thought; None when it was given up."""
        kind = type(part)
        if kind is Text:
            if part.cache is not None:  # type: ignore[union-attr]
                note(self._target, "cache_control")
            return Part(part.text, thought_signature=own_signature(part.signature))  # type: ignore[union-attr]
        if kind in _MEDIA:
            if field == "system":
                self._target.give_up("system", "system instructions are of text only")
                return None
            if getattr(part, "cache", None) is not None:
                note(self._target, "cache_control")
            if getattr(part, "detail", None) not in (None, "auto"):
                note(self._target, "image_url.detail")
            return to_part(part, self._target)  # type: ignore[arg-type]
        if kind is Refusal:
            return Part(part.text)  # type: ignore[union-attr]
        if kind is Opaque:
            return self._opaque(part)  # type: ignore[arg-type]
        raise Invalid(field, f"a {kind.__name__} cannot stand here")

    def _opaque(self, part: Opaque) -> Part | None:
        if part.dialect == NAME:
            return part.raw  # type: ignore[return-value]
        self._target.give_up(part.kind, f"only {part.dialect} understands it")
        return None

    def _model(self, parts: list[HubPart]) -> list[Part]:
        written: list[Part] = []
        first_call: Part | None = None
        signed = False
        for part in parts:
            kind = type(part)
            if kind is ToolCall:
                call = self._call(part)  # type: ignore[arg-type]
                first_call = first_call or call
                signed = signed or call.thought_signature is not None
                written.append(call)
            elif kind is Thinking:
                thought = self._thinking(part)  # type: ignore[arg-type]
                if thought is not None:
                    written.append(thought)
            elif (said := self._said(part, "messages")) is not None:
                written.append(said)
        if first_call is not None and not signed and "thought_signatures" in self._target.features:
            first_call.thought_signature = SKIP_VALIDATOR
        return written

    def _call(self, call: ToolCall) -> Part:
        self._calls[call.id] = (len(self._calls), call.name)
        arguments = as_object(call.arguments)
        if arguments is None:
            raise Invalid("messages.tool_calls.arguments", f"of the call {call.id!r} are not a JSON object")
        if call.cache is not None:
            note(self._target, "cache_control")
        signature = own_signature(call.signature)
        if call.signature is not None and signature is None:
            note(self._target, "signature")
        return Part(thought_signature=signature, function_call=FunctionCall(self._id(call.id), call.name, arguments))

    def _id(self, call_id: str) -> str | None:
        return None if call_id.startswith(MADE_UP) or "no_call_ids" in self._target.features else call_id

    def _thinking(self, part: Thinking) -> Part | None:
        signature = own_signature(part.signature)
        if part.signature is not None and signature is None:
            note(self._target, "thinking.signature")
        if part.redacted is not None:
            note(self._target, "redacted_thinking")
        return Part(part.text, True, signature) if part.text or signature is not None else None

    def _result(self, result: ToolResult) -> tuple[int, list[Part]]:
        place, name = self._calls.get(result.call_id, (-1, None))
        if name is None:
            raise Invalid("messages.tool_call_id", f"no call {result.call_id!r} before this result")
        if result.cache is not None:
            note(self._target, "cache_control")
        text: list[str] = []
        media: list[Part] = []
        for part in result.parts:
            kind = type(part)
            if kind is Text:
                text.append(part.text)  # type: ignore[union-attr]
            elif (written := self._said(part, "messages.content")) is not None:
                media.append(written)
        response = FunctionResponse(self._id(result.call_id), name, _response("\n".join(text), result.is_error))
        if media and "tool_images" in self._target.features:
            response.parts = [ResponsePart(one.inline_data, one.file_data) for one in media]
            media = []
        return place, [Part(function_response=response), *media]


def _response(text: str, is_error: bool) -> Raw:
    """A result as the object that Gemini wants: JSON objects as they are, anything else as `output` or `error`."""
    if not is_error and text.startswith("{") and text.endswith("}"):
        found = as_object(text)
        if found is not None:
            keys = read_object(found)
            # A lone `output` would be taken for the wrapping.
            if len(keys) != 1 or not _WRAPPED & keys.keys():
                return found
    return Raw(b'{"%s":%s}' % (b"error" if is_error else b"output", encode(text)))


def _tools(chat: Chat, target: Target) -> list[dict[str, object]]:
    tools: list[dict[str, object]] = []
    declared = [_declaration(tool, chat, target) for tool in chat.tools]
    if declared:
        tools.append({"functionDeclarations": declared})
    for tool in chat.server_tools:
        if tool.dialect == NAME:
            tools.append({tool.kind: tool.raw})
        else:
            target.give_up(f"tools.{tool.kind}", f"only {tool.dialect} has this tool")
    return tools


def _declaration(tool: Tool, chat: Chat, target: Target) -> dict[str, object]:
    if _NAME.match(tool.name) is None:
        reason = "must begin with a letter or _ and hold at most 128 letters, digits and _ . : - only"
        raise Unsupported("tools.function.name", f"{tool.name[:140]!r} {reason}")
    declared: dict[str, object] = {"name": tool.name}
    if tool.description:
        declared["description"] = tool.description
    if tool.cache is not None:
        note(target, "cache_control")
    if tool.schema is not None:
        _schema(tool.schema, "parameters", "tools.function.parameters", declared, target)
    if chat.origin == NAME:
        declared.update(tool.extra)
    return declared


def _schema(schema: Raw, key: str, field: str, into: dict[str, object], target: Target) -> None:
    """A schema under `key`, cut to Gemini's subset, or under its JSON Schema name where the target takes that."""
    if "json_schema" in target.features:
        into[f"{key}JsonSchema" if key == "parameters" else "responseJsonSchema"] = schema
        return
    cut, lost = subset(schema, field)
    for keyword in lost:
        note(target, f"{field}.{keyword}")
    if key != "parameters" or has_properties(cut):
        into[key] = cut


def _tool_choice(choice: ToolChoice, body: dict[str, object], target: Target) -> None:
    if choice.parallel is False:
        target.give_up("parallel_tool_calls", "the provider may always make several calls at once")
    calling: dict[str, object] = {"mode": {"auto": "AUTO", "none": "NONE"}.get(choice.mode, "ANY")}
    if choice.names and choice.mode != "none":
        calling["allowedFunctionNames"] = choice.names
        if choice.mode == "auto":
            calling["mode"] = "VALIDATED"  # the only mode with a list in which the model may also just talk
    if choice.mode != "auto" or choice.names or "tools" in body:
        body["toolConfig"] = {"functionCallingConfig": calling}


def _generation_config(chat: Chat, target: Target) -> dict[str, object]:
    scalars = (
        ("temperature", chat.temperature),
        ("topP", chat.top_p),
        ("topK", chat.top_k),
        ("candidateCount", chat.n),
        ("maxOutputTokens", chat.max_tokens),
        ("presencePenalty", chat.presence_penalty),
        ("frequencyPenalty", chat.frequency_penalty),
        ("responseLogprobs", chat.logprobs),
        ("logprobs", chat.top_logprobs),
    )
    config: dict[str, object] = {key: value for key, value in scalars if value is not None}
    if chat.stop:
        if len(chat.stop) > MAX_STOPS:
            target.give_up("stop", f"at most {MAX_STOPS} stop sequences")
        config["stopSequences"] = chat.stop[:MAX_STOPS]
    if chat.seed is not None:
        if -(2**31) <= chat.seed < 2**31:
            config["seed"] = chat.seed
        else:
            target.give_up("seed", "must fit into 32 bits")
    if chat.logit_bias is not None and bytes(chat.logit_bias) not in (b"{}", b"null"):
        target.give_up("logit_bias", "the provider has no logit bias")
    if chat.reasoning is not None:
        _reasoning(chat.reasoning, config, target, own=chat.origin == NAME)
    if chat.format is not None and chat.format.kind != "text":
        config["responseMimeType"] = "application/json"
        if chat.format.schema is not None:
            _schema(chat.format.schema, "responseSchema", "response_format.json_schema.schema", config, target)
    elif chat.format is not None and chat.origin == NAME:
        config["responseMimeType"] = "text/plain"
    return config


def _reasoning(reasoning: Reasoning, config: dict[str, object], target: Target, *, own: bool) -> None:
    thinking: dict[str, object] = {}
    effort, budget = reasoning.effort, reasoning.budget
    if "thinking_level" in target.features:
        if effort is None and budget is not None:
            effort = "none" if budget == 0 else "low" if budget <= 1024 else "medium" if budget <= 8192 else "high"
        if effort is not None:
            if effort == "none":
                target.give_up("reasoning_effort", "the model cannot be kept from thinking")
            thinking["thinkingLevel"] = LEVELS[effort]
    elif budget is not None:
        thinking["thinkingBudget"] = budget
    elif effort is not None:
        thinking["thinkingBudget"] = BUDGETS[effort]
    elif own and reasoning.native == "dynamic":
        thinking["thinkingBudget"] = -1
    if reasoning.show is not None:
        thinking["includeThoughts"] = reasoning.show
    if thinking:
        config["thinkingConfig"] = thinking
