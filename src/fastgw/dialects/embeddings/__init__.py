"""Embeddings: texts in, vectors out, in the shapes of OpenAI, Gemini and Cohere."""
