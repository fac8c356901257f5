"""What a request to count tokens and its answer are."""

from msgspec import Struct, field

from fastgw.call import Usage
from fastgw.dialects.hub import Chat

MAX_TOKENS = 2**53


class Counted(Struct):
    """The tokens of a prompt. Counting uses none."""

    tokens: int
    usage: Usage = field(default_factory=Usage)


def counted(tokens: int) -> Counted:
    """A provider's count. Raises ValueError for what is none."""
    if not 0 <= tokens < MAX_TOKENS:
        raise ValueError("the number of tokens is none")
    return Counted(tokens)


def prompt_of(chat: Chat) -> Chat:
    """What of a chat is its prompt: everything but how the answer is to be sampled, billed, sent and kept.

    `reasoning` and `format` stay, as models are told of both in their prompts.
    """
    return Chat(
        chat.model,
        chat.turns,
        chat.origin,
        tools=chat.tools,
        server_tools=chat.server_tools,
        tool_choice=chat.tool_choice,
        format=chat.format,
        reasoning=chat.reasoning,
        extra=chat.extra,
    )
