"""The grammar of Gemini's streams and requests, as a checker: written from the API's pages, apart from the gateway.

A stream (`alt=sse`): `data:` lines only, CRLF, no end mark; every event a GenerateContentResponse; `finishReason` once
for each candidate, in the stream's last events, with nothing of that candidate behind it; calls whole.
"""

import json
import re
from base64 import b64decode

FINISH = {
    "STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "LANGUAGE", "OTHER", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII",
    "MALFORMED_FUNCTION_CALL", "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_OTHER", "NO_IMAGE",
    "IMAGE_RECITATION", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE",
    "MALFORMED_RESPONSE", "CONTINUATION", "MODEL_ARMOR", "ESCALATION", "PUP_LIMITED_DISABLED",
}  # fmt: skip
RESPONSE_KEYS = {
    "candidates", "promptFeedback", "usageMetadata", "modelVersion", "responseId", "createTime", "modelStatus",
}  # fmt: skip
CANDIDATE_KEYS = {
    "content", "finishReason", "index", "safetyRatings", "citationMetadata", "groundingMetadata", "logprobsResult",
    "avgLogprobs", "tokenCount", "finishMessage", "urlContextMetadata",
}  # fmt: skip
KINDS = {
    "text", "inlineData", "fileData", "functionCall", "functionResponse", "executableCode", "codeExecutionResult",
    "toolCall", "toolResponse",
}  # fmt: skip
BESIDE = {"thought", "thoughtSignature", "videoMetadata", "mediaResolution", "mediaProcessing", "partMetadata"}
SCHEMA_KEYS = {
    "type", "format", "title", "description", "nullable", "enum", "maxItems", "minItems", "properties", "required",
    "minProperties", "maxProperties", "minLength", "maxLength", "pattern", "example", "anyOf", "propertyOrdering",
    "default", "items", "minimum", "maximum",
}  # fmt: skip
STATUSES = {
    400: {"INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"}, 403: {"PERMISSION_DENIED"}, 404: {"NOT_FOUND"},
    413: {"INVALID_ARGUMENT"}, 429: {"RESOURCE_EXHAUSTED"}, 500: {"INTERNAL", "UNKNOWN", "DATA_LOSS"},
    502: {"UNAVAILABLE"}, 503: {"UNAVAILABLE"}, 504: {"DEADLINE_EXCEEDED"},
}  # fmt: skip


def part_problems(part, where, *, request=False):
    """What is wrong with one part."""
    problems = []
    kinds = KINDS & part.keys()
    if len(kinds) != 1:
        problems.append(f"{where}: {sorted(kinds)} instead of one kind")
    problems += [f"{where}: unknown key {key}" for key in part.keys() - KINDS - BESIDE]
    if "text" in part and not isinstance(part["text"], str):
        problems.append(f"{where}: text is no string")
    if part.get("thought", True) is not True:
        problems.append(f"{where}: thought is {part['thought']!r}")
    signature = part.get("thoughtSignature")
    if "thoughtSignature" in part and not (isinstance(signature, str) and _is_base64(signature)):
        problems.append(f"{where}: thoughtSignature is not base64")
    call = part.get("functionCall")
    if call is not None:
        if not call.get("name") or not isinstance(call.get("args", {}), dict):
            problems.append(f"{where}: functionCall without name or with args that are no object")
        if call.keys() - {"id", "name", "args"}:
            problems.append(f"{where}: functionCall has {sorted(call)}")
    result = part.get("functionResponse")
    if result is not None and (not request or not result.get("name") or not isinstance(result.get("response"), dict)):
        problems.append(f"{where}: functionResponse in a reply, without name, or with a response that is no object")
    blob = part.get("inlineData")
    if blob is not None and (not blob.get("mimeType") or not _is_base64(blob.get("data") or "!", url_safe=False)):
        problems.append(f"{where}: inlineData without mimeType or base64")
    return problems


def _is_base64(text, *, url_safe=True):
    if url_safe and re.fullmatch(r"[A-Za-z0-9_-]+=*", text):
        return True
    try:
        return bool(b64decode(text, validate=True)) or not text
    except ValueError:
        return False


def usage_problems(usage):
    """The law of Gemini's usage."""
    fields = ("promptTokenCount", "candidatesTokenCount", "toolUsePromptTokenCount", "thoughtsTokenCount")
    total = sum(usage.get(name, 0) for name in fields)
    problems = [] if usage.get("totalTokenCount") == total else [f"totalTokenCount is not {total}: {usage}"]
    if usage.get("cachedContentTokenCount", 0) > usage.get("promptTokenCount", 0):
        problems.append(f"more cached than there was: {usage}")
    return problems


def response_problems(response, *, stream=False):
    """What is wrong with one GenerateContentResponse."""
    problems = [f"unknown key {key}" for key in response.keys() - RESPONSE_KEYS]
    if "usageMetadata" in response:
        problems += usage_problems(response["usageMetadata"])
    if not isinstance(response.get("modelVersion"), str):
        problems.append("no modelVersion")
    if "candidates" not in response and "promptFeedback" not in response:
        problems.append("neither candidates nor promptFeedback")
    for place, one in enumerate(response.get("candidates", [])):
        where = f"candidates[{place}]"
        problems += [f"{where}: unknown key {key}" for key in one.keys() - CANDIDATE_KEYS]
        if not isinstance(one.get("index"), int):
            problems.append(f"{where}: no index")
        content = one.get("content", {})
        if content.get("role") != "model":
            problems.append(f"{where}: role is {content.get('role')!r}")
        if stream and not content.get("parts"):
            problems.append(f"{where}: no parts, which the SDK's chats take for a broken frame")
        for n, part in enumerate(content.get("parts", [])):
            problems += part_problems(part, f"{where}.parts[{n}]")
        if "finishReason" in one and one["finishReason"] not in FINISH:
            problems.append(f"{where}: finishReason {one['finishReason']!r}")
        if not stream and "finishReason" not in one:
            problems.append(f"{where}: no finishReason")
    return problems


def frames(raw):
    """(the JSON of each event, problems of framing)."""
    found, problems = [], []
    if not raw.endswith(b"\r\n\r\n") and raw:
        problems.append("the stream does not end in an empty line")
    for event in raw.split(b"\r\n\r\n"):
        if not event:
            continue
        if not event.startswith(b"data: ") or b"\n" in event or b"\r" in event:
            problems.append(f"not one data line: {event[:60]!r}")
            continue
        try:
            found.append(json.loads(event[6:]))
        except ValueError:
            problems.append(f"not JSON: {event[:60]!r}")
    return found, problems


def stream_problems(raw, *, cut=False):
    """What is wrong with a whole stream; `cut`: it is known to end early."""
    found, problems = frames(raw)
    finished, seen, ids = set(), set(), set()
    for n, frame in enumerate(found):
        if "error" in frame:
            if n != len(found) - 1:
                problems.append(f"frame {n}: something follows an error")
            if list(frame) != ["error"]:
                problems.append(f"frame {n}: keys beside error")
            problems += error_problems(frame)
            return problems if not finished else [*problems, "an error behind the end"]
        problems += [f"frame {n}: {one}" for one in response_problems(frame, stream=True)]
        ids.add(frame.get("responseId"))
        for one in frame.get("candidates", []):
            seen.add(one.get("index"))
            if one.get("index") in finished:
                problems.append(f"frame {n}: candidate {one.get('index')} goes on behind its finishReason")
            if "finishReason" in one:
                finished.add(one.get("index"))
    if len(ids) > 1:
        problems.append(f"responseId changes: {ids}")
    if not cut and (not seen or seen != finished):
        problems.append(f"candidates {seen}, finished {finished}")
    if cut and finished:
        problems.append("a cut stream says that it finished")
    return problems


def error_problems(body):
    """What is wrong with an error body."""
    error = body.get("error", {})
    if not isinstance(error.get("code"), int) or not isinstance(error.get("message"), str):
        return [f"no code or message: {body}"]
    if error.get("status") not in STATUSES.get(error["code"], {error.get("status")}):
        return [f"status {error.get('status')!r} for {error['code']}"]
    return [f"detail without @type: {one}" for one in error.get("details", []) if "@type" not in one]


def schema_problems(schema, where="schema"):
    """What Gemini's schema subset refuses."""
    problems = [f"{where}: {key} is not of the subset" for key in schema.keys() - SCHEMA_KEYS]
    if "anyOf" in schema:
        if len(schema) > 1:
            problems.append(f"{where}: anyOf beside {sorted(schema)}")
        for n, branch in enumerate(schema["anyOf"]):
            problems += schema_problems(branch, f"{where}.anyOf[{n}]")
    if not isinstance(schema.get("type", ""), str):
        problems.append(f"{where}: type is {schema['type']!r}")
    if any(not isinstance(one, str) for one in schema.get("enum", [])):
        problems.append(f"{where}: enum of more than strings")
    if schema.get("type") == "array" and not schema.get("items"):
        problems.append(f"{where}: array without items")
    if set(schema.get("required", [])) - schema.get("properties", {}).keys():
        problems.append(f"{where}: requires what it does not define")
    for name, inner in schema.get("properties", {}).items():
        problems += schema_problems(inner, f"{where}.{name}")
    return problems + (schema_problems(schema["items"], f"{where}[]") if "items" in schema else [])


def request_problems(body):
    """What Gemini refuses in a request."""
    problems = []
    contents = body.get("contents") or []
    if not contents:
        problems.append("no contents")
    asked = []
    for n, content in enumerate(contents):
        where = f"contents[{n}]"
        if content.get("role") not in ("user", "model") or not content.get("parts"):
            problems.append(f"{where}: role {content.get('role')!r} or no parts")
        for i, part in enumerate(content.get("parts", [])):
            problems += part_problems(part, f"{where}.parts[{i}]", request=True)
        results = [part["functionResponse"]["name"] for part in content.get("parts", []) if "functionResponse" in part]
        if (asked or results) and sorted(asked) != sorted(results):
            problems.append(f"{where}: calls {asked} answered by {results}")
        asked = [part["functionCall"]["name"] for part in content.get("parts", []) if "functionCall" in part]
    for n, tool in enumerate(body.get("tools", [])):
        for one in tool.get("functionDeclarations", []):
            if not re.fullmatch(r"[A-Za-z_][\w.:-]{0,127}", one.get("name", ""), re.ASCII):
                problems.append(f"tools[{n}]: name {one.get('name')!r}")
            if "parameters" in one:
                problems += schema_problems(one["parameters"], f"tools[{n}].{one.get('name')}")
    config = body.get("generationConfig", {})
    if "responseSchema" in config:
        problems += schema_problems(config["responseSchema"], "responseSchema")
    if len(config.get("stopSequences", [])) > 5:
        problems.append("more than five stop sequences")
    for part in body.get("systemInstruction", {}).get("parts", []):
        if part.keys() - {"text", "thoughtSignature"}:
            problems.append(f"systemInstruction of more than text: {sorted(part)}")
    return problems
