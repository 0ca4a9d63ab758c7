"""Stored files: portraits, speech and videos, kept under keys and handed out by signed links."""
