"""OpenAI's chat completions. The codec is in `codec`."""
