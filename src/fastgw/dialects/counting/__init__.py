"""Counting the tokens of a request before it is made, in the shapes of Anthropic, Gemini and OpenAI's Responses.

The request that is counted is a chat, read and written by the dialects' own codecs; what bears on the answer alone is
left out. A count is a provider's own or none: the gateway never guesses one.
"""
