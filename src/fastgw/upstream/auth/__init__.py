"""Credentials that expire or that sign: one file a scheme, and `refresh.py`, which keeps what they make up to date.

The schemes are imported by name, since what they need (botocore, google-auth) is large: only a worker whose plan uses a
scheme ever loads it, in the thread that fetches and not on the loop.
"""
