"""Google's Gemini generateContent and what belongs to it. The codec is in `codec`."""
