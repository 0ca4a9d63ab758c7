"""Sayso makes a portrait speak: a face image and a speech recording in, a lip-synced video out."""

__version__ = "0.1.0"
