"""The nouns every dialect is read into and written from when client and provider speak different ones.

A request is a `Chat` of `Turn`s made of `Part`s, an answer a `Reply`, a stream a sequence of `Event`s. What one dialect
alone knows rides along as `Opaque` or in `extra`, and is refused or dropped by writers of other dialects by name, never
silently. JSON that the gateway has no business with (tool arguments, schemas) is kept as the text it came as, so that
numbers, key order and escapes survive.
"""

from typing import Literal

from msgspec import Raw, Struct

from fastgw.call import Usage

Role = Literal["system", "developer", "user", "assistant"]
StopReason = Literal["stop", "length", "tool_calls", "content_filter", "error"]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
ToolMode = Literal["auto", "none", "required", "named"]
FormatKind = Literal["text", "json", "schema"]


class Text(Struct, tag=True):
    """Text. `cache`: the raw `cache_control` object; `citations`: raw, as Anthropic has them.

    `signature`: opaque, and better sent back with the text (Gemini's thoughtSignature); see `ToolCall`.
    """

    text: str
    cache: Raw | None = None
    citations: Raw | None = None
    signature: str | None = None


class Image(Struct, tag=True):
    """An image, by `url` or as base64 `data` with its `media_type`."""

    media_type: str = ""
    data: str | None = None
    url: str | None = None
    detail: str | None = None
    cache: Raw | None = None


class Audio(Struct, tag=True):
    """Sound as base64 `data`; `format` is a short name such as `wav` or `mp3`."""

    data: str
    format: str


class Document(Struct, tag=True):
    """A file such as a PDF: base64 `data`, a `url`, or an id of the provider's own file store."""

    media_type: str = "application/pdf"
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    cache: Raw | None = None


class ToolCall(Struct, tag=True):
    """A call the model makes. `arguments` is JSON text as the model wrote it (`""` when it wrote none).

    `signature` is opaque and must come back with the call in the next request (Gemini's thoughtSignature).
    """

    id: str
    name: str
    arguments: str
    signature: str | None = None
    cache: Raw | None = None


class ToolResult(Struct, tag=True):
    """What a tool answered, for the call `call_id`. Stands in a user turn. `name` where it is known."""

    call_id: str
    parts: "list[Part]"
    is_error: bool = False
    name: str | None = None
    cache: Raw | None = None


class Thinking(Struct, tag=True):
    """The model's reasoning. `signature` and `redacted` are opaque and must come back unchanged."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


class Refusal(Struct, tag=True):
    """The model's refusal in words."""

    text: str


class Opaque(Struct, tag=True):
    """A part only `dialect` understands (its own server tools, say): raw JSON."""

    dialect: str
    kind: str
    raw: Raw


Part = Text | Image | Audio | Document | ToolCall | ToolResult | Thinking | Refusal | Opaque


class Turn(Struct):
    """One message. System and developer turns keep their place; tool results stand in user turns."""

    role: Role
    parts: list[Part]
    name: str | None = None


class Tool(Struct):
    """A function the model may call. `schema` is raw JSON Schema, None for no parameters.

    `extra` holds hints (no promises) of the origin's dialect, such as Anthropic's `defer_loading`; writers of other
    dialects skip it.
    """

    name: str
    description: str | None = None
    schema: Raw | None = None
    strict: bool | None = None
    cache: Raw | None = None
    extra: dict[str, Raw] = {}


class ToolChoice(Struct):
    """Which tools must or may be called. `parallel` False: one call at a time. `names` for `named` and allow-lists."""

    mode: ToolMode = "auto"
    names: list[str] = []
    parallel: bool | None = None


class Format(Struct):
    """What the answer's text must be."""

    kind: FormatKind = "text"
    name: str | None = None
    schema: Raw | None = None
    strict: bool | None = None
    description: str | None = None


class Reasoning(Struct):
    """How much thinking is asked for: a level, or a budget in tokens; `show`: whether its text is wanted.

    Neither level nor budget: as much as the model likes. `native` is the origin dialect's own word for the mode, for
    its own writer ("" where it named none).
    """

    effort: Effort | None = None
    budget: int | None = None
    show: bool | None = None
    native: str | None = None


class Chat(Struct):
    """A request. None means: not said. `extra` holds fields of `origin`'s dialect that the hub has no place for.

    `hints` holds those among them whose absence changes no answer (what was the default anyway, names for a cache):
    writers of other dialects leave them out without a word.
    """

    model: str
    turns: list[Turn]
    origin: str
    tools: list[Tool] = []
    server_tools: list[Opaque] = []
    tool_choice: ToolChoice | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: list[str] = []
    seed: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: Raw | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    format: Format | None = None
    reasoning: Reasoning | None = None
    service_tier: str | None = None
    user: str | None = None
    metadata: Raw | None = None
    stream: bool = False
    stream_usage: bool = False
    extra: dict[str, Raw] = {}
    hints: dict[str, Raw] = {}


class Choice(Struct):
    """One answer. `native_stop` is the provider's own word for why it ended; `stop_sequence` the one that matched."""

    parts: list[Part]
    stop: StopReason | None = None
    native_stop: str | None = None
    stop_sequence: str | None = None
    logprobs: Raw | None = None


class Reply(Struct):
    """A whole answer. `created` is seconds since the epoch, 0 when the provider does not say."""

    id: str
    model: str
    choices: list[Choice]
    usage: Usage | None = None
    created: int = 0
    service_tier: str | None = None
    fingerprint: str | None = None


class Start(Struct, tag=True):
    """The stream has begun."""

    id: str = ""
    model: str = ""
    created: int = 0
    service_tier: str | None = None
    fingerprint: str | None = None


class TextDelta(Struct, tag=True):
    """More text of the answer `choice`. `logprobs` is OpenAI's raw object for it; a `signature` ends a text."""

    text: str
    choice: int = 0
    logprobs: Raw | None = None
    signature: str | None = None


class RefusalDelta(Struct, tag=True):
    """More of a refusal."""

    text: str
    choice: int = 0


class ThinkDelta(Struct, tag=True):
    """More reasoning; a `signature` ends a run of it, `redacted` is a whole run."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None
    choice: int = 0


class ToolStart(Struct, tag=True):
    """The call `index` (0, 1, ... within `choice`) begins."""

    index: int
    id: str
    name: str
    choice: int = 0
    signature: str | None = None


class ToolDelta(Struct, tag=True):
    """More of the arguments of the call `index`: a fragment of JSON text."""

    index: int
    fragment: str
    choice: int = 0


class CitationDelta(Struct, tag=True):
    """A citation of the text before it, raw."""

    raw: Raw
    choice: int = 0


class OpaqueDelta(Struct, tag=True):
    """A frame only `dialect` understands; writers of other dialects skip it."""

    dialect: str
    kind: str
    raw: Raw


class Stop(Struct, tag=True):
    """The answer `choice` is complete."""

    reason: StopReason
    choice: int = 0
    native: str | None = None
    sequence: str | None = None


class UsageSeen(Struct, tag=True):
    """Usage so far: cumulative, to be merged field by field (the last word of each field counts), never added."""

    usage: Usage


class Done(Struct, tag=True):
    """The dialect's own end of stream was seen: the stream is complete."""


class Fail(Struct, tag=True):
    """The upstream told of an error inside the stream, in the terms of `Problem`."""

    problem: "Problem"


Event = (
    Start
    | TextDelta
    | RefusalDelta
    | ThinkDelta
    | ToolStart
    | ToolDelta
    | CitationDelta
    | OpaqueDelta
    | Stop
    | UsageSeen
    | Done
    | Fail
)


class Problem(Struct):
    """An upstream's error in neutral terms. `cause` is a row of `CAUSES`; the rest is kept as it was said."""

    cause: str
    status: int
    message: str
    type: str | None = None
    code: Raw | None = None
    param: str | None = None
    retry_after: float | None = None
    request_id: str | None = None


CAUSES = (
    "bad_request",
    "context_length",
    "auth",
    "billing",
    "forbidden",
    "not_found",
    "too_large",
    "rate_limit",
    "server",
    "overloaded",
    "timeout",
    "content_filter",
)


class Unsupported(ValueError):
    """A provider cannot do what a field asks; `field` is its path in the client's own spelling where that is known."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Invalid(ValueError):
    """The client's request is not of its dialect; `field` is the path of what is wrong."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Failed(ValueError):
    """What came with status 200 as a reply is an error."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class Target(Struct):
    """What a writer must know of the model it writes for, and where it notes what it left out.

    `drop`: fields that may be left out (the operator said so), each then listed in `dropped`; otherwise `give_up`
    raises `Unsupported`. `fetch_urls`: the provider itself fetches URLs of images.
    """

    model: str
    max_output: int = 4096
    drop: frozenset[str] = frozenset()
    dropped: list[str] = []
    mid_system: bool = False
    features: frozenset[str] = frozenset()

    def give_up(self, field: str, reason: str) -> None:
        """Leave `field` out if the operator allows it, else raise Unsupported."""
        if field not in self.drop and "*" not in self.drop:
            raise Unsupported(field, reason)
        if field not in self.dropped:
            self.dropped.append(field)


def merge_usage(old: Usage | None, new: Usage) -> Usage:
    """Usage that arrives in pieces: what the newer one says counts, what it leaves at 0 stays."""
    if old is None or (
        new.input
        and new.output
        and (new.cached or not old.cached)
        and (new.cache_write or not old.cache_write)
        and (new.reasoning or not old.reasoning)
    ):
        return new
    return Usage(
        new.input or old.input,
        new.output or old.output,
        new.cached or old.cached,
        new.cache_write or old.cache_write,
        new.reasoning or old.reasoning,
    )


BUDGETS: tuple[tuple[int, Effort], ...] = ((0, "none"), (1024, "low"), (8192, "medium"), (24576, "high"))
"""Thinking tokens up to which a level stands for a budget, as Google's OpenAI compatibility pairs them."""


def effort_of(budget: int) -> Effort | None:
    """The level that stands for a budget of thinking tokens; None where the model is to decide (a negative one)."""
    if budget < 0:
        return None
    return next((effort for most, effort in BUDGETS if budget <= most), "xhigh")
