"""One conversation, asked through each vendor's own SDK, and what the SDK made of the answer.

A `Case` is neutral; a client below writes it in its SDK's terms and reads the answer back into an `Outcome`, of which
`stop` and `usage` stay as the dialect has them. So outcomes of one client can be compared, whoever was asked.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import errors as genai_errors
from google.genai import types

TIMEOUT = 20
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


@dataclass(frozen=True)
class Case:
    """A request. Turns are `("user" | "assistant" | "image", text)`, `("linked", (text, URL of an image))`,
    `("calls", ((id, name, arguments), ...))`, `("results", ((id, name, text), ...))`, or `("said", native)` with what
    an outcome of the same client kept; tools are `(name, JSON Schema)`. `choice` is `none` or the tool to be called.
    """

    turns: tuple[tuple[str, Any], ...]
    system: str = ""
    tools: tuple[tuple[str, dict[str, Any]], ...] = ()
    force: bool = False
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    model: str = "mock-small"
    think: bool = False
    choice: str = ""
    stop: tuple[str, ...] = ()
    answers: int = 0


@dataclass
class Outcome:
    """What an SDK made of an answer. `arguments` are the calls' as text where the SDK leaves them so, `others` the
    texts of further answers, `native` what the client sends back to go on with the conversation.
    """

    text: str = ""
    stop: Any = None
    calls: list[tuple[str, Any]] = field(default_factory=list)
    usage: tuple[int, ...] = ()
    complete: bool = False
    ids: list[str] = field(default_factory=list, compare=False)
    arguments: list[str] = field(default_factory=list, compare=False)
    others: list[str] = field(default_factory=list)
    thought: str = field(default="", compare=False)
    refusal: str = field(default="", compare=False)
    native: Any = field(default=None, compare=False)


@dataclass(frozen=True)
class Refusal:
    """An error as an SDK raised it. `code` is the dialect's own, where it has one."""

    kind: str
    status: int
    message: str = field(compare=False, default="")
    retry_after: str | None = field(compare=False, default=None)
    code: str | None = field(compare=False, default=None)


def _called(outcome: Outcome, ident: str | None, name: str, arguments: str) -> None:
    outcome.calls.append((name, json.loads(arguments or "{}")))
    outcome.arguments.append(arguments)
    outcome.ids.append(ident or "")


class OpenAIChat:
    """The openai SDK's chat completions."""

    dialect = "openai_chat"
    failures = (openai.OpenAIError,)

    def __init__(self, url: str, key: str, direct: bool) -> None:
        self.sdk = openai.OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0, timeout=TIMEOUT)

    def _request(self, case: Case) -> dict[str, Any]:
        messages: list[dict[str, Any]] = [{"role": "system", "content": case.system}] if case.system else []
        for kind, said in case.turns:
            if kind == "calls":
                calls = [{"id": i, "type": "function", "function": {"name": n, "arguments": a}} for i, n, a in said]
                messages.append({"role": "assistant", "content": None, "tool_calls": calls})
            elif kind == "results":
                messages += [{"role": "tool", "tool_call_id": i, "content": text} for i, _, text in said]
            elif kind == "image":
                image = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}
                messages.append({"role": "user", "content": [{"type": "text", "text": said}, image]})
            elif kind == "linked":
                image = {"type": "image_url", "image_url": {"url": said[1]}}
                messages.append({"role": "user", "content": [{"type": "text", "text": said[0]}, image]})
            elif kind == "said":
                messages.append(said)
            else:
                messages.append({"role": kind, "content": said})
        return {"messages": messages} | self._options(case)

    @staticmethod
    def _options(case: Case) -> dict[str, Any]:
        more: dict[str, Any] = {}
        if case.tools:
            more["tools"] = [
                {"type": "function", "function": {"name": n, "parameters": schema}} for n, schema in case.tools
            ]
        if case.force or case.choice == "none":
            more["tool_choice"] = case.choice or "required"
        elif case.choice:
            more["tool_choice"] = {"type": "function", "function": {"name": case.choice}}
        if case.stop:
            more["stop"] = list(case.stop)
        if case.answers:
            more["n"] = case.answers
        if case.max_tokens:
            more["max_completion_tokens"] = case.max_tokens
        if case.think:
            more["reasoning_effort"] = "low"
        if case.schema:
            wanted = {"name": "answer", "schema": case.schema, "strict": True}
            more["response_format"] = {"type": "json_schema", "json_schema": wanted}
        return more

    def whole(self, model: str, case: Case) -> Outcome:
        reply = self.sdk.chat.completions.create(model=model, **self._request(case))
        choice, *others = reply.choices
        said = choice.message
        outcome = Outcome(said.content or "", choice.finish_reason, complete=True, usage=self._usage(reply))
        outcome.others = [other.message.content for other in others]
        outcome.refusal, outcome.thought = said.refusal or "", getattr(said, "reasoning_content", None) or ""
        for call in said.tool_calls or ():
            _called(outcome, call.id, call.function.name, call.function.arguments)
        outcome.native = said.model_dump(exclude_unset=True)
        return outcome

    def streamed(self, model: str, case: Case) -> Outcome:
        outcome, calls, others, details, seals = Outcome(), {}, {}, {}, {}
        options = {"include_usage": True}
        for chunk in self.sdk.chat.completions.create(
            model=model, stream=True, stream_options=options, **self._request(case)
        ):
            outcome.usage = self._usage(chunk) or outcome.usage
            for choice in chunk.choices:
                delta = choice.delta
                if choice.index:
                    others[choice.index] = others.get(choice.index, "") + (delta.content or "")
                    continue
                outcome.text += delta.content or ""
                outcome.refusal += delta.refusal or ""
                outcome.thought += getattr(delta, "reasoning_content", None) or ""
                outcome.stop = choice.finish_reason or outcome.stop
                for part in delta.tool_calls or ():
                    call = calls.setdefault(part.index, [part.id, part.function.name, ""])
                    call[2] += part.function.arguments or ""
                    if sealed := getattr(part, "extra_content", None):
                        seals[part.id] = {"extra_content": sealed}
                for detail in getattr(delta, "reasoning_details", None) or ():
                    known = details.setdefault(detail["index"], {})
                    known |= detail | {"text": known.get("text", "") + (detail.get("text") or "")}
        outcome.complete = outcome.stop is not None
        outcome.others = [text for _, text in sorted(others.items())]
        for _, call in sorted(calls.items()):
            _called(outcome, *call)
        outcome.native = self._said(outcome, list(details.values()), seals)
        return outcome

    @staticmethod
    def _said(outcome: Outcome, details: list[dict[str, Any]], seals: dict[str, Any]) -> dict[str, Any]:
        """The message that the chunks make together."""
        message: dict[str, Any] = {"role": "assistant", "content": outcome.text or None}
        if outcome.calls:
            called = zip(outcome.ids, outcome.calls, outcome.arguments, strict=True)
            message["tool_calls"] = [
                {"id": i, "type": "function", "function": {"name": name, "arguments": text}} | seals.get(i, {})
                for i, (name, _), text in called
            ]
        return message | ({"reasoning_details": details} if details else {})

    @staticmethod
    def _usage(reply: Any) -> tuple[int, ...]:
        usage = reply.usage
        if usage is None:
            return ()
        cached, thought = usage.prompt_tokens_details, usage.completion_tokens_details
        return (
            usage.prompt_tokens,
            usage.completion_tokens,
            usage.total_tokens,
            (cached.cached_tokens or 0) if cached else 0,
            (thought.reasoning_tokens or 0) if thought else 0,
        )

    @staticmethod
    def refusal(error: Any) -> Refusal:
        headers = error.response.headers if isinstance(error, openai.APIStatusError) else {}
        told = (type(error).__name__, getattr(error, "status_code", 0), str(error), headers.get("retry-after"))
        return Refusal(*told, getattr(error, "code", None))


class OpenAIResponses(OpenAIChat):
    """The openai SDK's responses."""

    dialect = "openai_responses"

    def _request(self, case: Case) -> dict[str, Any]:
        items: list[dict[str, Any]] = []
        for kind, said in case.turns:
            if kind == "calls":
                items += [{"type": "function_call", "call_id": i, "name": n, "arguments": a} for i, n, a in said]
            elif kind == "results":
                items += [{"type": "function_call_output", "call_id": i, "output": text} for i, _, text in said]
            elif kind == "image":
                image = {"type": "input_image", "image_url": f"data:image/png;base64,{PNG}", "detail": "auto"}
                items.append({"role": "user", "content": [{"type": "input_text", "text": said}, image]})
            elif kind == "linked":
                image = {"type": "input_image", "image_url": said[1], "detail": "auto"}
                items.append({"role": "user", "content": [{"type": "input_text", "text": said[0]}, image]})
            elif kind == "said":
                items += said
            else:
                items.append({"role": kind, "content": said})
        return {"input": items} | self._options(case)

    @staticmethod
    def _options(case: Case) -> dict[str, Any]:
        assert not case.stop, "this API has none"
        assert not case.answers, "this API gives one"
        more: dict[str, Any] = {}
        if case.system:
            more["instructions"] = case.system
        if case.tools:
            more["tools"] = [
                {"type": "function", "name": n, "parameters": schema, "strict": False} for n, schema in case.tools
            ]
        if case.force or case.choice == "none":
            more["tool_choice"] = case.choice or "required"
        elif case.choice:
            more["tool_choice"] = {"type": "function", "name": case.choice}
        if case.max_tokens:
            more["max_output_tokens"] = case.max_tokens
        if case.think:
            more["reasoning"] = {"effort": "low", "summary": "auto"}
            more |= {"include": ["reasoning.encrypted_content"], "store": False}
        if case.schema:
            more["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": case.schema, "strict": True}}
        return more

    def whole(self, model: str, case: Case) -> Outcome:
        return self._read(self.sdk.responses.create(model=model, **self._request(case)))

    def streamed(self, model: str, case: Case) -> Outcome:
        text, refusal, final = "", "", None
        for number, event in enumerate(self.sdk.responses.create(model=model, stream=True, **self._request(case))):
            if event.type == "error":
                raise openai.APIError(event.message, None, body=None)
            assert event.sequence_number == number
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type == "response.refusal.delta":
                refusal += event.delta
            elif event.type in ("response.completed", "response.incomplete"):
                final = event.response
        if final is None:
            return Outcome(text)
        outcome = self._read(final)
        assert (outcome.text, outcome.refusal) == (text, refusal)
        return outcome

    @staticmethod
    def _read(reply: Any) -> Outcome:
        reason = reply.incomplete_details.reason if reply.incomplete_details else None
        outcome = Outcome(reply.output_text, (reply.status, reason), complete=True)
        if reply.usage:
            usage = reply.usage
            cached, thought = usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens
            outcome.usage = (usage.input_tokens, usage.output_tokens, usage.total_tokens, cached, thought)
        for item in reply.output:
            if item.type == "function_call":
                _called(outcome, item.call_id, item.name, item.arguments)
            elif item.type == "reasoning":
                outcome.thought += "".join(part.text for part in item.summary)
            elif item.type == "message":
                outcome.refusal += "".join(part.refusal for part in item.content if part.type == "refusal")
        outcome.native = [item.model_dump(mode="json", exclude_unset=True) for item in reply.output]
        return outcome


class Anthropic:
    """The anthropic SDK's messages."""

    dialect = "anthropic_messages"
    failures = (anthropic.AnthropicError,)

    def __init__(self, url: str, key: str, direct: bool) -> None:
        self.sdk = anthropic.Anthropic(api_key=key, base_url=url, max_retries=0, timeout=TIMEOUT)

    def _request(self, case: Case) -> dict[str, Any]:
        more: dict[str, Any] = {"messages": [_anthropic_turn(kind, said) for kind, said in case.turns]}
        more["max_tokens"] = case.max_tokens or 1000
        if case.think:
            more["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        if case.system:
            more["system"] = case.system
        if case.tools:
            more["tools"] = [{"name": n, "input_schema": schema} for n, schema in case.tools]
        if case.force or case.choice == "none":
            more["tool_choice"] = {"type": "any" if case.force else "none"}
        elif case.choice:
            more["tool_choice"] = {"type": "tool", "name": case.choice}
        if case.stop:
            more["stop_sequences"] = list(case.stop)
        assert not case.answers, "this API gives one"
        if case.schema:
            more["output_config"] = {"format": {"type": "json_schema", "schema": case.schema}}
        return more

    def whole(self, model: str, case: Case) -> Outcome:
        reply = self.sdk.messages.create(model=model, **self._request(case))
        outcome = Outcome(stop=(reply.stop_reason, reply.stop_sequence), complete=True)
        if (usage := reply.usage) is not None:
            outcome.usage = (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens or 0)
        for block in reply.content:
            if block.type == "text":
                outcome.text += block.text
            elif block.type == "thinking":
                outcome.thought += block.thinking
            elif block.type == "tool_use":
                _called(outcome, block.id, block.name, json.dumps(block.input))
        outcome.native = [block.model_dump(exclude_unset=True) for block in reply.content]
        return outcome

    def streamed(self, model: str, case: Case) -> Outcome:
        outcome, calls, counted, blocks = Outcome(), {}, [0, 0, 0], []
        for event in self.sdk.messages.create(model=model, stream=True, **self._request(case)):
            if event.type == "message_start":
                if (usage := event.message.usage) is not None:
                    counted[::2] = [usage.input_tokens, usage.cache_read_input_tokens or 0]
            elif event.type == "content_block_start":
                assert event.index == len(blocks)
                blocks.append(event.content_block.model_dump(exclude_unset=True))
                if event.content_block.type == "tool_use":
                    calls[event.index] = [event.content_block.id, event.content_block.name, ""]
            elif event.type == "content_block_delta":
                if event.delta.type == "input_json_delta":
                    calls[event.index][2] += event.delta.partial_json
                else:
                    ((name, more),) = event.delta.model_dump(exclude_unset=True, exclude={"type"}).items()
                    blocks[event.index][name] = blocks[event.index].get(name, "") + more
            elif event.type == "message_delta":
                outcome.stop = (event.delta.stop_reason, event.delta.stop_sequence)
                # Cumulative; the input is told again only by some.
                usage = event.usage
                told = (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens) if usage else counted
                counted = [new or old for new, old in zip(told, counted, strict=True)]
            outcome.complete = event.type == "message_stop"
        outcome.usage = tuple(counted)
        outcome.text = "".join(block["text"] for block in blocks if block["type"] == "text")
        outcome.thought = "".join(block["thinking"] for block in blocks if block["type"] == "thinking")
        for index, (ident, name, arguments) in sorted(calls.items()):
            if outcome.complete:
                _called(outcome, ident, name, arguments or "{}")
                blocks[index]["input"] = outcome.calls[-1][1]
        outcome.native = blocks
        return outcome

    @staticmethod
    def refusal(error: Any) -> Refusal:
        headers = error.response.headers if isinstance(error, anthropic.APIStatusError) else {}
        return Refusal(type(error).__name__, getattr(error, "status_code", 0), str(error), headers.get("retry-after"))


def _anthropic_turn(kind: str, said: Any) -> dict[str, Any]:
    if kind == "calls":
        blocks = [{"type": "tool_use", "id": i, "name": n, "input": json.loads(a)} for i, n, a in said]
        return {"role": "assistant", "content": blocks}
    if kind == "results":
        return {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": i, "content": text} for i, _, text in said],
        }
    if kind == "image":
        image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
        return {"role": "user", "content": [{"type": "text", "text": said}, image]}
    if kind == "linked":
        image = {"type": "image", "source": {"type": "url", "url": said[1]}}
        return {"role": "user", "content": [{"type": "text", "text": said[0]}, image]}
    return {"role": "assistant" if kind == "said" else kind, "content": said}


class Gemini:
    """The google-genai SDK's generate_content, on the version of the API it takes by default."""

    dialect = "gemini"
    failures = (genai_errors.APIError, genai_errors.UnknownApiResponseError)

    def __init__(self, url: str, key: str, direct: bool) -> None:
        options = types.HttpOptions(
            base_url=url, timeout=TIMEOUT * 1000, retry_options=types.HttpRetryOptions(attempts=1)
        )
        if direct:
            options.api_version = "v1beta"
        self.sdk = genai.Client(api_key=key, vertexai=False, http_options=options)

    def _request(self, case: Case) -> dict[str, Any]:
        config = types.GenerateContentConfig(max_output_tokens=case.max_tokens)
        if case.think:
            config.thinking_config = types.ThinkingConfig(thinking_budget=1024, include_thoughts=True)
        if case.system:
            config.system_instruction = case.system
        if case.tools:
            config.tools = [
                types.Tool(function_declarations=[
                    types.FunctionDeclaration(name=n, parameters_json_schema=schema) for n, schema in case.tools
                ])
            ]  # fmt: skip
        if case.force or case.choice:
            calling = types.FunctionCallingConfig(mode="NONE" if case.choice == "none" else "ANY")
            calling.allowed_function_names = [case.choice] if case.choice not in ("", "none") else None
            config.tool_config = types.ToolConfig(function_calling_config=calling)
        config.stop_sequences, config.candidate_count = list(case.stop) or None, case.answers or None
        if case.schema:
            config.response_mime_type, config.response_json_schema = "application/json", case.schema
        return {"contents": [_gemini_turn(kind, said) for kind, said in case.turns], "config": config}

    def whole(self, model: str, case: Case) -> Outcome:
        return self._read([self.sdk.models.generate_content(model=model, **self._request(case))])

    def streamed(self, model: str, case: Case) -> Outcome:
        return self._read(self.sdk.models.generate_content_stream(model=model, **self._request(case)))

    @staticmethod
    def _read(replies: Iterable[Any]) -> Outcome:
        outcome, parts, others = Outcome(), [], {}
        for reply in replies:
            if (usage := reply.usage_metadata) is not None:
                outcome.usage = (
                    usage.prompt_token_count or 0,
                    usage.candidates_token_count or 0,
                    usage.total_token_count or 0,
                    usage.cached_content_token_count or 0,
                    usage.thoughts_token_count or 0,
                )
            for candidate in reply.candidates or ():
                said = (candidate.content.parts if candidate.content else None) or []
                if candidate.index:
                    others[candidate.index] = others.get(candidate.index, "") + "".join(p.text or "" for p in said)
                    continue
                outcome.stop = candidate.finish_reason or outcome.stop
                parts += said
        for part in parts:
            if part.thought:
                outcome.thought += part.text or ""
            else:
                outcome.text += part.text or ""
            if part.function_call is not None:
                call = part.function_call
                _called(outcome, call.id, call.name, json.dumps(call.args or {}))
        outcome.complete = outcome.stop is not None
        outcome.others, outcome.native = [text for _, text in sorted(others.items())], parts
        return outcome

    @staticmethod
    def refusal(error: Any) -> Refusal:
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        told = (type(error).__name__, getattr(error, "code", 0), str(error), headers.get("retry-after"))
        return Refusal(*told, getattr(error, "status", None))


def _gemini_turn(kind: str, said: Any) -> Any:
    if kind == "calls":
        parts = [types.Part(function_call=types.FunctionCall(id=i, name=n, args=json.loads(a))) for i, n, a in said]
        return types.Content(role="model", parts=parts)
    if kind == "results":
        answers = [
            types.Part(function_response=types.FunctionResponse(id=i, name=n, response={"output": text}))
            for i, n, text in said
        ]
        return types.Content(role="user", parts=answers)
    if kind == "said":
        return types.Content(role="model", parts=said)
    parts = [types.Part(text=said[0] if kind == "linked" else said)]
    if kind == "linked":
        parts.append(types.Part(file_data=types.FileData(file_uri=said[1], mime_type="image/png")))
    if kind == "image":
        parts.append(types.Part.model_validate({"inline_data": {"mime_type": "image/png", "data": PNG}}))
    return types.Content(role="model" if kind == "assistant" else "user", parts=parts)


Client = OpenAIChat | OpenAIResponses | Anthropic | Gemini
CLIENTS: tuple[type[Client], ...] = (OpenAIChat, Anthropic, Gemini, OpenAIResponses)
