"""Anthropic's Messages. The codec is in `codec`."""
