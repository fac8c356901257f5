"""The litellm client through the gateway. Reads what to ask of whom from standard input, writes what came of it."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # read when it is imported: no price list from the network
import litellm

ASKED = json.load(sys.stdin)
URL, KEY = ASKED["url"], ASKED["key"]
litellm.suppress_debug_info = True
litellm.telemetry = False
# The client's provider, and the address that it has for it.
PROVIDERS = {"openai": f"{URL}/v1", "anthropic": URL, "gemini": f"{URL}/v1beta"}
TOOL = {"type": "function", "function": {
    "name": "weather", "description": "The weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}}  # fmt: skip
SCHEMA = {
    "type": "object", "properties": {"name": {"type": "string"}, "done": {"type": "boolean"}},
    "required": ["name", "done"], "additionalProperties": False,
}  # fmt: skip
Ask = Callable[..., Any]


def _prompt() -> list[dict[str, Any]]:
    return [{"role": "user", "content": ASKED["prompt"]}]


def text(ask: Ask) -> Any:
    reply = ask("mock-small", messages=_prompt())
    usage = [reply.usage.prompt_tokens, reply.usage.completion_tokens]
    return {"text": reply.choices[0].message.content, "usage": usage}


def stream(ask: Ask) -> Any:
    chunks = ask("mock-small", messages=_prompt(), stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


def _answered(ask: Ask, asked: list[dict[str, Any]], message: Any) -> Any:
    results = [
        {"role": "tool", "tool_call_id": call.id, "name": "weather", "content": "it rains"}
        for call in message.tool_calls
    ]
    second = ask("stage-signed", messages=[*asked, message.model_dump(exclude_none=True), *results], tools=[TOOL])
    calls = [[call.function.name, json.loads(call.function.arguments)] for call in message.tool_calls]
    return {"calls": calls, "text": second.choices[0].message.content}


def tool_call(ask: Ask) -> Any:
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    return _answered(ask, asked, ask("stage-signed", messages=asked, tools=[TOOL]).choices[0].message)


def streamed_tool_call(ask: Ask) -> Any:
    asked = [{"role": "user", "content": "What is the weather in Paris?"}]
    chunks = list(ask("stage-signed", messages=asked, tools=[TOOL], stream=True))
    return _answered(ask, asked, litellm.stream_chunk_builder(chunks, messages=asked).choices[0].message)


def structured(ask: Ask) -> Any:
    wanted = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
    reply = ask("mock-small", messages=_prompt(), response_format=wanted)
    return {"value": json.loads(reply.choices[0].message.content)}


def error(ask: Ask) -> Any:
    try:
        ask("mock-error-429", messages=_prompt())
    except litellm.exceptions.APIError as raised:
        return {"status": raised.status_code, "kind": type(raised).__name__}
    except Exception as raised:
        return {"status": getattr(raised, "status_code", None), "kind": type(raised).__name__}
    return {"status": 200}


SCENARIOS = {"text": text, "stream": stream, "tool call": tool_call, "streamed tool call": streamed_tool_call,
             "structured output": structured, "error": error}  # fmt: skip


def main() -> None:
    told: dict[str, Any] = {}
    for provider, base in PROVIDERS.items():
        for upstream in ASKED["upstreams"]:

            def ask(model: str, *, name: str = f"{provider}/{upstream}", base: str = base, **more: Any) -> Any:
                return litellm.completion(model=f"{name}.{model}", api_base=base, api_key=KEY, max_retries=0, **more)

            for scenario, run in SCENARIOS.items():
                try:
                    came = run(ask)
                except Exception as raised:
                    came = {"raised": f"{type(raised).__name__}: {raised}"[:2000]}
                told[f"{provider}|{scenario}|{upstream}"] = came
    json.dump(told, sys.stdout)


main()
