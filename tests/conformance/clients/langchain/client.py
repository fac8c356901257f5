"""LangChain through the gateway. Reads what to ask of whom from standard input, writes what came of it, as JSON."""

import json
import sys
from collections.abc import Callable
from typing import Any

from langchain_anthropic import ChatAnthropic
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Answer(BaseModel):
    """A name and whether it is done."""

    name: str
    done: bool


@tool
def weather(city: str) -> str:
    """The weather of a city."""
    return f"it rains in {city}"


ASKED = json.load(sys.stdin)
URL, KEY = ASKED["url"], ASKED["key"]
MODELS: dict[str, Callable[[str], Any]] = {
    "ChatOpenAI": lambda name: ChatOpenAI(model=name, base_url=f"{URL}/v1", api_key=KEY, max_retries=0),
    "ChatOpenAI, responses": lambda name: ChatOpenAI(
        model=name, base_url=f"{URL}/v1", api_key=KEY, max_retries=0, use_responses_api=True
    ),
    "ChatAnthropic": lambda name: ChatAnthropic(model=name, base_url=URL, api_key=KEY, max_retries=0, max_tokens=4000),
    "ChatGoogleGenerativeAI": lambda name: ChatGoogleGenerativeAI(
        model=name, base_url=URL, google_api_key=KEY, max_retries=1
    ),
}


def text(model: Callable[[str], Any]) -> Any:
    reply = model("mock-small").invoke(ASKED["prompt"])
    return {"text": reply.text, "usage": [reply.usage_metadata["input_tokens"], reply.usage_metadata["output_tokens"]]}


def stream(model: Callable[[str], Any]) -> Any:
    pieces = [piece.text for piece in model("mock-small").stream(ASKED["prompt"])]
    return {"text": "".join(pieces), "pieces": sum(map(bool, pieces))}


def tool_call(model: Callable[[str], Any]) -> Any:
    bound = model("stage-signed").bind_tools([weather])
    question = HumanMessage("What is the weather in Paris?")
    first = bound.invoke([question])
    results = [ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in first.tool_calls]
    second = bound.invoke([question, first, *results])
    return {"calls": [[call["name"], call["args"]] for call in first.tool_calls], "text": second.text}


def streamed_tool_call(model: Callable[[str], Any]) -> Any:
    bound = model("stage-signed").bind_tools([weather])
    question = HumanMessage("What is the weather in Paris?")
    first: AIMessageChunk | None = None
    for piece in bound.stream([question]):
        first = piece if first is None else first + piece
    assert first is not None
    results = [ToolMessage(weather.invoke(call["args"]), tool_call_id=call["id"]) for call in first.tool_calls]
    second = bound.invoke([question, first, *results])
    return {"calls": [[call["name"], call["args"]] for call in first.tool_calls], "text": second.text}


def structured(model: Callable[[str], Any]) -> Any:
    value = model("mock-small").with_structured_output(Answer, method="json_schema").invoke(ASKED["prompt"])
    return {"value": value.model_dump()}


def error(model: Callable[[str], Any]) -> Any:
    try:
        model("mock-error-429").invoke(ASKED["prompt"])
    except Exception as raised:
        cause = raised if getattr(raised, "response", None) is not None else raised.__cause__ or raised
        return {"status": getattr(cause, "status_code", None) or getattr(cause, "code", None),
                "kind": type(cause).__name__}  # fmt: skip
    return {"status": 200}


SCENARIOS = {"text": text, "stream": stream, "tool call": tool_call, "streamed tool call": streamed_tool_call,
             "structured output": structured, "error": error}  # fmt: skip


def main() -> None:
    told: dict[str, Any] = {}
    for name, make in MODELS.items():
        for upstream in ASKED["upstreams"]:
            for scenario, run in SCENARIOS.items():
                try:
                    came = run(lambda model, make=make, upstream=upstream: make(f"{upstream}.{model}"))
                except Exception as raised:
                    came = {"raised": f"{type(raised).__name__}: {raised}"[:2000]}
                told[f"{name}|{scenario}|{upstream}"] = came
    json.dump(told, sys.stdout)


main()
