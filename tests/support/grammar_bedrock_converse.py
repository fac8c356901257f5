"""What a request of Converse must hold: AWS's own model of the service, and the rules of conversations beside it."""

import json
import re
from functools import cache
from itertools import pairwise
from typing import Any

import botocore.session
from botocore.model import ServiceModel
from botocore.validate import ParamValidator

_NAME = re.compile(r"(?:[A-Za-z0-9()\[\]-]|\s(?!\s)){1,200}")


@cache
def service() -> ServiceModel:
    """The model of bedrock-runtime that ships with botocore."""
    return botocore.session.get_session().get_service_model("bedrock-runtime")


def request_problems(body: dict[str, Any]) -> list[str]:
    """What is wrong with a request; empty when nothing is."""
    shape = service().operation_model("Converse").input_shape
    report = ParamValidator().validate(body | {"modelId": "m"}, shape)
    problems = [report.generate_report()] if report.has_errors() else []
    return problems + _pattern_problems(body) + _turn_problems(body)


def _pattern_problems(body: dict[str, Any]) -> list[str]:
    identified, named = (
        re.compile(service().shape_for(name).metadata["pattern"]).fullmatch for name in ("ToolUseId", "ToolName")
    )
    blocks = [block for turn in body["messages"] for block in turn["content"]]
    ids = [part["toolUseId"] for block in blocks for part in (block.get("toolUse"), block.get("toolResult")) if part]
    specs = [tool["toolSpec"]["name"] for tool in body.get("toolConfig", {}).get("tools", ()) if "toolSpec" in tool]
    wrong = [one for one in ids if not identified(one)] + [one for one in specs if not named(one)]
    return [f"the name {one!r}" for one in wrong]


def _turn_problems(body: dict[str, Any]) -> list[str]:
    turns = body["messages"]
    roles = [turn["role"] for turn in turns]
    found = [f"two of {one} in a row" for one, two in pairwise(roles) if one == two]
    blocks = [block for turn in turns for block in turn["content"]]
    found += ["an empty message" for turn in turns if not turn["content"]]
    found += ["a blank text" for block in (*blocks, *body.get("system", ())) if not block.get("text", "x").strip()]
    found += [f"a union of {sorted(block)}" for block in blocks if len(block) != 1]
    names = [block["document"]["name"] for block in blocks if "document" in block]
    if len(set(names)) < len(names) or not all(map(_NAME.fullmatch, names)):
        found.append(f"names of documents {names}")
    if "toolConfig" not in body and any("toolUse" in block or "toolResult" in block for block in blocks):
        found.append("calls without toolConfig")
    more = body.get("additionalModelRequestFields", {})
    if "tool_choice" in more and "toolChoice" in body.get("toolConfig", {}):
        found.append("two choices of tools")
    for turn in turns:
        results = ["toolResult" in block for block in turn["content"] if "cachePoint" not in block]
        if results != sorted(results, reverse=True):
            found.append("results behind other content")
    schema = body.get("outputConfig", {}).get("textFormat", {}).get("structure", {}).get("jsonSchema")
    if schema is not None:
        json.loads(schema["schema"])
    return found
