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
    """A request. Turns are `("user" | "assistant" | "image", text)`, `("calls", ((id, name, arguments), ...))` or
    `("results", ((id, name, text), ...))`; tools are `(name, JSON Schema)`.
    """

    turns: tuple[tuple[str, Any], ...]
    system: str = ""
    tools: tuple[tuple[str, dict[str, Any]], ...] = ()
    force: bool = False
    max_tokens: int | None = None
    schema: dict[str, Any] | None = None
    model: str = "mock-small"
    think: bool = False


@dataclass
class Outcome:
    """What an SDK made of an answer. `arguments` are the calls' as text where the SDK leaves them so."""

    text: str = ""
    stop: Any = None
    calls: list[tuple[str, Any]] = field(default_factory=list)
    usage: tuple[int, ...] = ()
    complete: bool = False
    ids: list[str] = field(default_factory=list, compare=False)
    arguments: list[str] = field(default_factory=list, compare=False)


@dataclass(frozen=True)
class Refusal:
    """An error as an SDK raised it."""

    kind: str
    status: int
    message: str = field(compare=False, default="")
    retry_after: str | None = field(compare=False, default=None)


def _called(outcome: Outcome, ident: str | None, name: str, arguments: str) -> None:
    outcome.calls.append((name, json.loads(arguments)))
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
            else:
                messages.append({"role": kind, "content": said})
        more: dict[str, Any] = {"messages": messages}
        if case.tools:
            more["tools"] = [
                {"type": "function", "function": {"name": n, "parameters": schema}} for n, schema in case.tools
            ]
        if case.force:
            more["tool_choice"] = "required"
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
        (choice,) = reply.choices
        outcome = Outcome(choice.message.content or "", choice.finish_reason, complete=True, usage=self._usage(reply))
        for call in choice.message.tool_calls or ():
            _called(outcome, call.id, call.function.name, call.function.arguments)
        return outcome

    def streamed(self, model: str, case: Case) -> Outcome:
        outcome, calls = Outcome(), {}
        options = {"include_usage": True}
        for chunk in self.sdk.chat.completions.create(
            model=model, stream=True, stream_options=options, **self._request(case)
        ):
            outcome.usage = self._usage(chunk) or outcome.usage
            for choice in chunk.choices:
                outcome.text += choice.delta.content or ""
                outcome.stop = choice.finish_reason or outcome.stop
                for part in choice.delta.tool_calls or ():
                    call = calls.setdefault(part.index, [part.id, part.function.name, ""])
                    call[2] += part.function.arguments or ""
        outcome.complete = outcome.stop is not None
        for _, call in sorted(calls.items()):
            _called(outcome, *call)
        return outcome

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
        return Refusal(type(error).__name__, getattr(error, "status_code", 0), str(error), headers.get("retry-after"))


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
            else:
                items.append({"role": kind, "content": said})
        more: dict[str, Any] = {"input": items}
        if case.system:
            more["instructions"] = case.system
        if case.tools:
            more["tools"] = [
                {"type": "function", "name": n, "parameters": schema, "strict": False} for n, schema in case.tools
            ]
        if case.force:
            more["tool_choice"] = "required"
        if case.max_tokens:
            more["max_output_tokens"] = case.max_tokens
        if case.think:
            more["reasoning"] = {"effort": "low"}
        if case.schema:
            more["text"] = {"format": {"type": "json_schema", "name": "answer", "schema": case.schema, "strict": True}}
        return more

    def whole(self, model: str, case: Case) -> Outcome:
        return self._read(self.sdk.responses.create(model=model, **self._request(case)))

    def streamed(self, model: str, case: Case) -> Outcome:
        text, final = "", None
        for number, event in enumerate(self.sdk.responses.create(model=model, stream=True, **self._request(case))):
            if event.type == "error":
                raise openai.APIError(event.message, None, body=None)
            assert event.sequence_number == number
            if event.type == "response.output_text.delta":
                text += event.delta
            elif event.type in ("response.completed", "response.incomplete"):
                final = event.response
        if final is None:
            return Outcome(text)
        outcome = self._read(final)
        assert outcome.text == text
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
        if case.force:
            more["tool_choice"] = {"type": "any"}
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
            elif block.type == "tool_use":
                _called(outcome, block.id, block.name, json.dumps(block.input))
        return outcome

    def streamed(self, model: str, case: Case) -> Outcome:
        outcome, calls, counted = Outcome(), {}, [0, 0, 0]
        for event in self.sdk.messages.create(model=model, stream=True, **self._request(case)):
            if event.type == "message_start":
                if (usage := event.message.usage) is not None:
                    counted[::2] = [usage.input_tokens, usage.cache_read_input_tokens or 0]
            elif event.type == "content_block_start" and event.content_block.type == "tool_use":
                calls[event.index] = [event.content_block.id, event.content_block.name, ""]
            elif event.type == "content_block_delta":
                outcome.text += getattr(event.delta, "text", "")
                if event.delta.type == "input_json_delta":
                    calls[event.index][2] += event.delta.partial_json
            elif event.type == "message_delta":
                outcome.stop = (event.delta.stop_reason, event.delta.stop_sequence)
                # Cumulative; the input is told again only by some.
                usage = event.usage
                told = (usage.input_tokens, usage.output_tokens, usage.cache_read_input_tokens) if usage else counted
                counted = [new or old for new, old in zip(told, counted, strict=True)]
            outcome.complete = event.type == "message_stop"
        outcome.usage = tuple(counted)
        for _, (ident, name, arguments) in sorted(calls.items()):
            if outcome.complete:
                _called(outcome, ident, name, arguments or "{}")
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
    return {"role": kind, "content": said}


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
        if case.force:
            config.tool_config = types.ToolConfig(function_calling_config=types.FunctionCallingConfig(mode="ANY"))
        if case.schema:
            config.response_mime_type, config.response_json_schema = "application/json", case.schema
        return {"contents": [_gemini_turn(kind, said) for kind, said in case.turns], "config": config}

    def whole(self, model: str, case: Case) -> Outcome:
        return self._read([self.sdk.models.generate_content(model=model, **self._request(case))])

    def streamed(self, model: str, case: Case) -> Outcome:
        return self._read(self.sdk.models.generate_content_stream(model=model, **self._request(case)))

    @staticmethod
    def _read(replies: Iterable[Any]) -> Outcome:
        outcome = Outcome()
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
                outcome.stop = candidate.finish_reason or outcome.stop
                for part in (candidate.content.parts if candidate.content else None) or ():
                    outcome.text += (part.text or "") if not part.thought else ""
                    if part.function_call is not None:
                        call = part.function_call
                        _called(outcome, call.id, call.name, json.dumps(call.args))
        outcome.complete = outcome.stop is not None
        return outcome

    @staticmethod
    def refusal(error: Any) -> Refusal:
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        return Refusal(type(error).__name__, getattr(error, "code", 0), str(error), headers.get("retry-after"))


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
    parts = [types.Part(text=said)]
    if kind == "image":
        parts.append(types.Part.model_validate({"inline_data": {"mime_type": "image/png", "data": PNG}}))
    return types.Content(role="model" if kind == "assistant" else "user", parts=parts)


Client = OpenAIChat | OpenAIResponses | Anthropic | Gemini
CLIENTS: tuple[type[Client], ...] = (OpenAIChat, Anthropic, Gemini, OpenAIResponses)
