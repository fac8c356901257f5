"""The model's name in a request: where it is looked for, and what stands beside it that is for the gateway only."""

import msgspec

from fastgw._core import fields
from fastgw.call import Call
from fastgw.dialects.openrouter import MODELS, PROVIDER, Wishes, read_models
from fastgw.gateway.routes import Match

WISHING = frozenset(
    {"openai_chat", "openai_completions", "openai_embeddings", "openai_responses", "anthropic_messages"}
)
"""The dialects in which `models` and `provider` are read; in others they are fields like any other."""
MODEL = b"model"


def prepare(call: Call, match: Match, body: fields.Fields) -> fields.Fields:
    """The body without `models` and `provider`, and with a model's name where it lacks one and there is a default.

    Sets `call.wishes`, and `call.model_name` where it was empty. Raises GatewayError and FieldError.
    """
    if (body.has(MODELS) or body.has(PROVIDER)) and match.endpoint.dialect.name in WISHING:
        body = _without_wishes(call, body)
    if not call.model_name:
        body = _named(call, body)
    return body


def _without_wishes(call: Call, body: fields.Fields) -> fields.Fields:
    models = read_models(body.get(MODELS) or b"null")
    provider = body.get(PROVIDER)
    if models and not call.model_name:
        body = _with_model(call, body, models[0])
    passed = fields.scan(body.replace({MODELS: None}))
    if models or provider not in (None, b"null"):
        call.wishes = Wishes(models, provider, passed)
    return fields.scan(passed.replace({PROVIDER: None}))


def _named(call: Call, body: fields.Fields) -> fields.Fields:
    name = call.key.default_model or call.live.plan.default_model
    return _with_model(call, body, name) if name else body


def _with_model(call: Call, body: fields.Fields, name: str) -> fields.Fields:
    call.model_name = name
    return fields.scan(body.replace({MODEL: msgspec.json.encode(name)}))
