"""OpenAI's Responses where a provider keeps them: every id a client sees is sealed for its key.

Providers know a response by an id that any caller of the same account could use. So the id in a reply, wherever it
stands, is replaced by a token (`state.seal`) that names the provider and that only this key can present: as
`previous_response_id`, which then goes to the same provider, and in `GET`, `DELETE`, `/cancel` and `/input_items`.
Nothing else of a reply is changed, and nothing is stored here.
Source: https://platform.openai.com/docs/api-reference/responses.
"""

from collections.abc import Callable

import msgspec

from fastgw._core import fields
from fastgw.call import Call, Usage
from fastgw.dialects import framing
from fastgw.dialects.base import Tap
from fastgw.errors import GatewayError
from fastgw.gateway.passthrough import Asked, take, with_query
from fastgw.gateway.routes import Kept
from fastgw.state.seal import Sealed
from fastgw.upstream.reply import Reply

NAME = "openai_responses"
GOING_ON = frozenset({NAME, "openai_responses_count"})
"""The dialects whose requests may go on from a response."""
PREFIX = "resp_"
PREVIOUS, CONVERSATION = b"previous_response_id", b"conversation"
IDS = (b"id", PREVIOUS)
METHODS = {"": ("GET", "DELETE"), "/cancel": ("POST",), "/input_items": ("GET",)}
Swap = Callable[[str], str]


# -- requests ----------------------------------------------------------------------------------------------------------


def prepare(call: Call, body: fields.Fields) -> fields.Fields:
    """The body with the provider's own id of the response it goes on from; the call is then bound to that provider.

    Raises GatewayError: `response_not_found` for an id that is not this key's, `unsupported_field` where no provider of
    the model keeps responses.
    """
    try:
        token = body.text(PREVIOUS)
    except fields.FieldError as error:
        raise GatewayError(error.code, error.message, param=error.field) from None
    _check_conversation(call, body)
    if not token:
        return body
    keepers = {way.provider for way in call.model.ways if NAME in way.heads}
    if not keepers:
        raise GatewayError(
            "unsupported_field",
            f"previous_response_id cannot be served by {call.model.name!r}: its providers keep no responses. "
            "Send the whole conversation in `input`.",
            param="previous_response_id",
        )
    sealed = call.live.seal.open(call.key.name, token, PREFIX)
    if sealed is None:
        raise _not_found("Previous response", token, "previous_response_id")
    if sealed.place not in keepers:
        raise GatewayError(
            "unsupported_field",
            f"previous_response_id names a response kept by a provider that does not serve {call.model.name!r}. "
            "Ask a model of the same provider, or send the whole conversation in `input`.",
            param="previous_response_id",
        )
    call.pinned, call.quoted = sealed.place, (sealed.ident, token)
    change = {PREVIOUS: msgspec.json.encode(sealed.ident)}
    if call.wishes is not None:
        call.wishes.passed = fields.scan(call.wishes.passed.replace(change))
    return fields.scan(body.replace(change))


def _check_conversation(call: Call, body: fields.Fields) -> None:
    """A conversation is shared by all who may use the account's: it goes where those were switched on."""
    if body.get(CONVERSATION) in (None, b"null"):
        return
    account = call.live.routes.accounts.get("openai/conversations")
    if account is None or not call.key.pass_through:
        raise GatewayError(
            "unsupported_field",
            "conversation is not switched on here for this key: send previous_response_id, or the turns in `input`. "
            "Whoever runs this gateway can list conversations under `pass_through` of a provider.",
            param="conversation",
        )
    call.pinned = account.ways[0].provider


def asked(call: Call, kept: Kept) -> Callable[[bytes], Asked]:
    """Set the account that keeps the response a path names; how its request is then made of the caller's body.

    Raises GatewayError: `response_not_found`, `method_not_allowed`.
    """
    method, token = call.exchange.method, kept.path
    allowed = METHODS[kept.family]
    if method not in allowed:
        message = f"This path takes {' and '.join(allowed)} requests only."
        raise GatewayError("method_not_allowed", message, allow=", ".join(allowed))
    sealed = call.live.seal.open(call.key.name, token, PREFIX)
    account = None if sealed is None else call.live.routes.accounts.get(f"responses/{sealed.place}")
    if sealed is None or account is None:
        raise _not_found("Response", token, None)
    take(call, account)
    call.quoted = (sealed.ident, token)
    path = with_query(account.ways[0].keeps_response(sealed.ident, kept.family), call.exchange.query)
    return lambda payload: Asked(method, path, payload)


def _not_found(what: str, token: str, param: str | None) -> GatewayError:
    shown = ascii(token if len(token) <= 100 else token[:100] + "...")
    message = f"{what} with id {shown} not found. Known are only those that were made with this key and stored."
    return GatewayError("response_not_found", message, param=param)


# -- replies -----------------------------------------------------------------------------------------------------------


def seal_whole(call: Call, reply: Reply) -> None:
    """Seal the ids in a reply that was read whole; an error only has the id it may quote replaced."""
    if reply.status < 300:
        reply.body = _sealed(reply.body, swap_of(call))
    elif call.quoted is not None:
        ident, token = call.quoted
        if ident:
            reply.body = reply.body.replace(ident.encode(), token.encode())


def swap_of(call: Call) -> Swap:
    """How this call's ids are sealed."""
    seal, owner, place = call.live.seal, call.key.name, call.target.provider
    return lambda ident: str(seal.seal(owner, Sealed(place, ident), PREFIX))


def _sealed(document: bytes, swap: Swap) -> bytes:
    """A response with its ids sealed; what is no JSON object stays as it is."""
    try:
        found = fields.scan(document)
    except fields.FieldError:
        return document
    if not (found.get(b"object") or b"").startswith(b'"response'):
        return document  # a list of items, say: their ids open nothing
    changes: dict[bytes, bytes | None] = {}
    for name in IDS:
        try:
            ident = found.text(name)
        except fields.FieldError:
            continue  # no text, or one with half a surrogate pair in it, which opens nothing
        if ident:
            changes[name] = msgspec.json.encode(swap(ident))
    return found.replace(changes)


class SealingTap:
    """Seals the ids in the events of a stream that another tap watches. See `base.Tap`."""

    __slots__ = ("_inner", "_swap", "complete", "events", "failed", "usage")

    def __init__(self, inner: Tap, swap: Swap) -> None:
        self.usage: Usage | None = None
        self.complete = False
        self.failed = False
        self.events = 0
        self._inner = inner
        self._swap = swap

    def feed(self, data: bytes) -> bytes:
        """The complete events of what has arrived, their responses' ids sealed."""
        return self._edited(self._inner.feed(data))

    def finish(self) -> bytes:
        """What is left when the upstream has ended."""
        return self._edited(self._inner.finish())

    def _edited(self, block: bytes) -> bytes:
        inner = self._inner
        self.usage, self.complete, self.failed, self.events = inner.usage, inner.complete, inner.failed, inner.events
        if block.find(b'"response"') < 0:
            return block
        # What a stream ends with may lack its empty line; it is an event all the same.
        whole, rest = framing.complete(block)
        return b"".join([self._event(event) for event in framing.events(whole)]) + (self._event(rest) if rest else b"")

    def _event(self, event: bytes) -> bytes:
        payload = framing.payload(event)
        if payload is None or b'"response"' not in payload:
            return event
        try:
            outer = fields.scan(payload)
            response = outer.get(b"response")
            if response is None or not response.startswith(b"{"):
                return event
            edited = outer.replace({b"response": _sealed(response, self._swap)})
        except fields.FieldError:
            return event
        if payload in event:
            return event.replace(payload, edited, 1)
        name = framing.name(event)
        lines = [f"event: {name}".encode()] if name else []
        return b"\n".join([*lines, *(b"data: " + line for line in edited.split(b"\n")), b"\n"])
