"""The scenarios: what each vendor's SDK must be able to do through the gateway, whoever's dialect the provider speaks.

A scenario's check asks through the gateway and compares what the SDK parsed with what the same SDK parses when the
provider of its own dialect is asked directly, or with what is stated here. What a provider cannot do is `Refused`, and
`REFUSED` states where and by which field.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from fastgw.mock.text import lorem
from tests.e2e.pairs import CASES, FAULTS, HELLO, PLACE, World, ask
from tests.e2e.sdks import PNG, Case, Outcome, Refusal
from tests.support.stage import ANSWERED, ODD_ARGUMENTS, SIGNATURE

OK, NONE = "ok", "–"
"""Verdicts: as it must be; there is no such thing in the client's dialect, or nothing of it in the provider's."""


class Refused(Exception):
    """The gateway refused, as documented, because the provider cannot do what `field` asks."""

    def __init__(self, field: str) -> None:
        super().__init__(field)
        self.field = field


@dataclass(frozen=True)
class Cell:
    """One client's dialect asking a provider of another, whole or streamed."""

    world: World
    client: str
    upstream: str
    stream: bool

    def ask(self, case: Case) -> Outcome:
        """The answer through the gateway. Raises Refused; any other error fails the scenario."""
        told = self.tell(case)
        if isinstance(told, Refusal) and (field := unsupported(told)):
            raise Refused(field)
        assert isinstance(told, Outcome), told
        assert told.complete
        return told

    def tell(self, case: Case) -> Outcome | Refusal:
        """The answer or error through the gateway."""
        return ask(self.world.through[self.client], f"{self.upstream}.{case.model}", case, self.stream)

    def directly(self, case: Case) -> Outcome:
        """What the SDK gets from the provider of its own dialect."""
        told = self.world.directly(self.client, case, self.stream)
        assert isinstance(told, Outcome), told
        assert told.complete
        return told

    def same(self, case: Case) -> Outcome:
        """The answer, which must be what the SDK is told directly."""
        expected, outcome = self.directly(case), self.ask(case)
        assert outcome == expected
        if (self.client, self.upstream) != ("gemini", "gemini"):
            # Gemini may give no ids at all; whoever translates must.
            assert all(outcome.ids)
            assert len(set(outcome.ids)) == len(outcome.ids)
        return outcome


UNSUPPORTED = re.compile(r"([\w.]+) cannot be served by '[\w.-]+': .*ask the operator to allow dropping it")


def unsupported(told: Refusal) -> str:
    """The field of a documented refusal, or nothing."""
    found = UNSUPPORTED.search(told.message)
    assert found is None or told.status == 400
    return found[1] if found is not None else ""


Check = Callable[[Cell], object]


@dataclass(frozen=True)
class Scenario:
    """`clients`, `upstreams`: the dialects that have such a thing (all where empty); `streams`: ways of asking."""

    title: str
    check: Check
    clients: tuple[str, ...] = ()
    upstreams: tuple[str, ...] = ()
    streams: tuple[bool, ...] = (False, True)

    def verdict(self, world: World, client: str, upstream: str) -> str:
        """OK, NONE, or `refused: field`: the same for every way of asking. AssertionError where it is none of them."""
        if (self.clients and client not in self.clients) or (self.upstreams and upstream not in self.upstreams):
            return NONE
        verdicts = {self._one(Cell(world, client, upstream, stream)) for stream in self.streams}
        assert len(verdicts) == 1, verdicts
        return verdicts.pop()

    def _one(self, cell: Cell) -> str:
        before = cell.world.mock.stats()["requests"], len(cell.world.stage.seen)
        try:
            self.check(cell)
        except Refused as refused:
            assert (cell.world.mock.stats()["requests"], len(cell.world.stage.seen)) == before, "the provider was asked"
            return f"refused: {refused.field}"
        return OK


# --- what is asked, and what must come of it


def same(name: str) -> Check:
    return lambda cell: cell.same(CASES[name])


def multi_turn(cell: Cell) -> None:
    cell.same(CASES["turns"])
    sent = cell.world.mock.stats()["last_body"]
    places = [sent.index(text) for _, text in CASES["turns"].turns]
    assert places == sorted(places)


SYSTEM = Case(HELLO, system="You are a pirate. Répondez en é.")


def system(cell: Cell) -> None:
    cell.same(SYSTEM)
    sent = json.loads(cell.world.mock.stats()["last_body"])
    wanted = {"anthropic_messages": "system", "gemini": "systemInstruction", "openai_chat": "messages"}
    places = (wanted.get(cell.upstream, "instructions"), "input", "system_instruction")
    assert any(SYSTEM.system in json.dumps(sent.get(place), ensure_ascii=False) for place in places)


def parallel(cell: Cell) -> None:
    outcome = cell.same(CASES["tools"])
    assert [name for name, _ in outcome.calls] == ["weather", "clock", "now"]


def results(cell: Cell) -> None:
    cell.same(CASES["results"])
    sent = json.dumps(json.loads(cell.world.mock.stats()["last_body"]), ensure_ascii=False)
    assert sent.index("rain é") < sent.index('"sun"')


def named(cell: Cell) -> None:
    """OpenAI ends a call that was forced by name with `stop`, so only the calls are compared."""
    case = replace(CASES["tools"], turns=(("user", "Go"),), choice="now")
    outcome = cell.ask(case)
    assert outcome.calls == cell.directly(case).calls == [("now", {})]


def none(cell: Cell) -> None:
    case = replace(CASES["tools"], choice="none")
    assert not cell.same(case).calls


def image(cell: Cell) -> None:
    cell.same(CASES["image"])
    assert PNG in cell.world.mock.stats()["last_body"].replace("-", "+").replace("_", "/")


LINK = "https://example.com/a/cat.png?size=1&x=%20"


def linked(cell: Cell) -> None:
    cell.same(Case((("linked", ("What is this?", LINK)),)))
    assert LINK in cell.world.mock.stats()["last_body"]


def structured(cell: Cell) -> None:
    assert json.loads(cell.same(CASES["schema"]).text) == {"name": "mock", "count": 9007199254740993}


THINKING = Case((("user", "Think about it."),), model="stage-thinking", think=True, max_tokens=4000)
ASKED = {
    "openai_chat": "reasoning_effort", "openai_responses": "reasoning", "anthropic_messages": "thinking",
    "gemini": "generationConfig",
}  # fmt: skip


def thinking(cell: Cell) -> None:
    outcome = cell.same(THINKING)
    assert outcome.text == "Done."
    assert outcome.thought == "Let me think."
    asked = cell.world.stage.last["asked"]
    assert asked[ASKED[cell.upstream]]
    if cell.upstream == "gemini":
        assert asked["generationConfig"]["thinkingConfig"]


def signed(cell: Cell) -> None:
    """What was signed comes back to its provider as it was, with the result of the call that it led to."""
    question = (("user", "What is the weather in Paris?"),)
    case = Case(question, tools=(("weather", PLACE),), model="stage-signed", think=True, max_tokens=4000)
    first = cell.ask(case)
    assert first.calls == [("weather", {"city": "Paris"})]
    answer = ((first.ids[0] or None, "weather", ANSWERED.decode()),)
    second = cell.ask(replace(case, turns=(*question, ("said", first.native), ("results", answer))))
    assert second.text == "It rains in Paris."
    if cell.upstream != "openai_chat":
        # Chat completions have no signatures.
        assert SIGNATURE in cell.world.stage.last["body"].decode()


def length(cell: Cell) -> None:
    outcome = cell.same(CASES["length"])
    assert outcome.stop != cell.directly(CASES["text"]).stop


SEQUENCE = Case(HELLO, model="stage-sequence", stop=("###", "@@@"))


def sequence(cell: Cell) -> None:
    """Only Anthropic says which sequence it was."""
    expected, outcome = cell.directly(SEQUENCE), cell.ask(SEQUENCE)
    if cell.client == "anthropic_messages" and cell.upstream != "anthropic_messages":
        expected = replace(expected, stop=("end_turn", None))
    assert outcome == expected
    assert '"###"' in cell.world.stage.last["body"].decode()


def usage(cell: Cell) -> None:
    counted = cell.same(CASES["text"]).usage
    assert all(counted[:2])
    if cell.client != "anthropic_messages":
        assert counted[0] + counted[1] + (counted[4] if cell.client == "gemini" else 0) == counted[2]


def cached(cell: Cell) -> None:
    counted = cell.same(CASES["cached"]).usage
    assert counted[2 if cell.client == "anthropic_messages" else 3] > 0


def refused(cell: Cell) -> None:
    case = Case(HELLO, model="stage-refusal")
    assert cell.same(case).text == "I had better not"


def in_words(cell: Cell) -> None:
    """A refusal in words is text where a dialect has no other place for it."""
    outcome = cell.ask(Case(HELLO, model="stage-words"))
    assert outcome.refusal or outcome.text == "I cannot help with that."
    assert (outcome.refusal != "") == cell.client.startswith("openai")


def unicode(cell: Cell) -> None:
    assert cell.same(CASES["unicode"]).text == CASES["unicode"].turns[0][1]


NUMBERS = Case(HELLO, tools=(("take", {"type": "object"}),), model="stage-numbers")


def numbers(cell: Cell) -> None:
    outcome = cell.same(NUMBERS)
    assert outcome.calls[0][1]["whole"] == 9007199254740993
    assert outcome.calls[0][1]["huge"] == float("inf"), "what Python makes of 1e400"
    if cell.client.startswith("openai"):
        assert outcome.arguments == [ODD_ARGUMENTS]


def empty(cell: Cell) -> None:
    case = Case(HELLO, tools=(("now", {"type": "object", "properties": {}}),), model="stage-empty")
    assert cell.same(case).calls == [("now", {})]


def several(cell: Cell) -> None:
    case = Case(HELLO, answers=3)
    outcome = cell.same(case)
    assert [outcome.text.split()[0], *(text.split()[0] for text in outcome.others)] == [
        lorem(1, start=7 * index)[0].strip() for index in range(3)
    ]


# --- errors


def told(cell: Cell, model: str) -> Refusal:
    """The error the model's name asks for, as the SDK raises it."""
    answer = cell.tell(Case(HELLO, model=model))
    assert isinstance(answer, Refusal), answer
    assert answer.message
    return answer


def as_directly(*statuses: int) -> Check:
    def check(cell: Cell) -> None:
        for status in statuses:
            case = Case(HELLO, model=f"mock-error-{status}")
            answer = told(cell, case.model)
            assert answer.status == status
            assert answer == cell.world.directly(cell.client, case, cell.stream)

    return check


def too_long(cell: Cell) -> None:
    answer = told(cell, "stage-long")
    assert answer.status == 400
    assert answer.kind == ("ClientError" if cell.client == "gemini" else "BadRequestError")
    if cell.client.startswith("openai"):
        assert answer.code == "context_length_exceeded"
    elif cell.client == "anthropic_messages":
        assert "prompt is too long" in answer.message
    else:
        assert answer.code == "INVALID_ARGUMENT"


def rate_limit(cell: Cell) -> None:
    as_directly(429)(cell)
    if cell.client != cell.upstream:
        # Where nothing is translated, what the provider says of it is passed on, in a header or not.
        assert told(cell, "mock-error-429").retry_after == "1"


def overloaded(cell: Cell) -> None:
    """529 is Anthropic's own word for it."""
    for status in (503, 529):
        answer = told(cell, f"mock-error-{status}")
        expected = status if cell.client == cell.upstream else 529 if cell.client == "anthropic_messages" else 503
        assert answer.status == expected


def upstream_key(cell: Cell) -> None:
    answer = told(cell, "mock-error-401")
    assert answer.status == 502
    assert "key is fine" in answer.message


def cut_stream(cell: Cell) -> None:
    for model in FAULTS:
        answer = cell.tell(Case(HELLO, model=model))
        assert isinstance(answer, Refusal) or not answer.complete, (model, answer)


def cut_reply(cell: Cell) -> None:
    assert told(cell, "mock-cut-250").status == 502


def stream_error(cell: Cell) -> None:
    """One that opens the stream is the answer itself; a later one is never a clean end."""
    first = told(cell, "mock-stream-error-0")
    if cell.client != cell.upstream:
        assert first.status in (500, 503, 529)
    late = cell.tell(Case(HELLO, model="mock-stream-error-3"))
    assert isinstance(late, Refusal) or not late.complete, late


WHOLE, STREAMED = (False,), (True,)
SCENARIOS: dict[str, Scenario] = {
    "text": Scenario("one question", same("text")),
    "multi_turn": Scenario("several turns of user and assistant, in order", multi_turn),
    "system": Scenario("instructions, in the provider's own place for them", system),
    "tool_one": Scenario("one call of a tool that must be called", same("tool")),
    "tools_parallel": Scenario("three calls at once: own ids, own arguments", parallel, streams=WHOLE),
    "tools_streamed": Scenario("the same in fragments", parallel, streams=STREAMED),
    "tools_unused": Scenario("tools that are not called", same("tools_unused")),
    "tool_results": Scenario("calls and their results in the history", results),
    "tool_choice_named": Scenario("one tool forced by name", named),
    "tool_choice_none": Scenario("tools forbidden", none),
    "image_data": Scenario("an image as base64", image),
    "image_url": Scenario("an image by its URL", linked),
    "structured_output": Scenario("an answer that fits a JSON Schema", structured),
    "thinking": Scenario("thinking asked for and shown", thinking),
    "thinking_usage": Scenario("thinking counted", same("reasoning")),
    "thinking_signature": Scenario(
        "a signed thought with a call, sent back with the result (chat completions have no signature to keep)", signed
    ),
    "stop_length": Scenario("cut off by the caller's limit", length),
    "stop_sequence": Scenario(
        "ended by a stop sequence", sequence, clients=("openai_chat", "anthropic_messages", "gemini")
    ),
    "usage": Scenario("tokens of a whole reply", usage, streams=WHOLE),
    "usage_in_stream": Scenario("tokens of a stream", usage, streams=STREAMED),
    "usage_cached": Scenario("tokens from the provider's cache", cached),
    "refusal": Scenario("the provider's filter ends the answer", refused),
    "refusal_in_words": Scenario(
        "the model refuses in words of their own field", in_words, upstreams=("openai_chat", "openai_responses")
    ),
    "unicode": Scenario("U+2028, U+2029, U+0085, emoji, quotes", unicode),
    "odd_numbers": Scenario("2^53+1, 1e400, 1.10 and -0.0 in arguments", numbers),
    "empty_arguments": Scenario("a call without arguments", empty),
    "several_answers": Scenario("three answers to one question", several, clients=("openai_chat", "gemini")),
    "context_length": Scenario("a prompt that is too long", too_long),
    "rate_limit": Scenario("429, with when to come back", rate_limit),
    "overloaded": Scenario("503 and 529", overloaded),
    "upstream_key": Scenario("the gateway's own key is refused", upstream_key),
    "other_errors": Scenario("400, 404, 413 and 500", as_directly(400, 404, 413, 500)),
    "cut_reply": Scenario("a whole reply that breaks off", cut_reply, streams=WHOLE),
    "cut_stream": Scenario("a stream that breaks off never looks complete", cut_stream, streams=STREAMED),
    "error_in_stream": Scenario("an error at the start and in the middle of a stream", stream_error, streams=STREAMED),
}

CHAT, RESPONSES, MESSAGES, GEMINI = "openai_chat", "openai_responses", "anthropic_messages", "gemini"
REFUSED: dict[tuple[str, str, str], str] = {
    **{("image_url", client, GEMINI): "image.url" for client in (CHAT, RESPONSES, MESSAGES)},
    **{("stop_sequence", client, RESPONSES): "stop" for client in (CHAT, MESSAGES, GEMINI)},
    **{("several_answers", client, upstream): "n" for client in (CHAT, GEMINI) for upstream in (RESPONSES, MESSAGES)},
}
"""(scenario, client, upstream) → the field that is named."""


def cells() -> Iterator[tuple[str, str, str]]:
    """All of them."""
    dialects = (CHAT, RESPONSES, MESSAGES, GEMINI)
    return ((name, client, upstream) for name in SCENARIOS for client in dialects for upstream in dialects)
