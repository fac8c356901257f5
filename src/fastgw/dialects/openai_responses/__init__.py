"""OpenAI's Responses. The codec is in `codec`."""
