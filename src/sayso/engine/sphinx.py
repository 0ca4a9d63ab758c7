"""pocketsphinx's all-phone decoder, so called that other threads go on while it listens.

    all_phone_decoder()   -> PhoneDecoder
    decoder.segments(pcm) -> [(phone, first frame, last frame), ...]

The package's own class holds the interpreter for as long as it decodes: half a second for ten of
speech, in which a portrait could have been made ready. The functions behind it
(`pocketsphinx/search.h`, 5.1) lie in the same shared library and are called directly, which lets
the interpreter go. Where a build hides them, the class does the same work.
"""

from __future__ import annotations

import json
from ctypes import CDLL, POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from sayso.media.audio import Pcm

if TYPE_CHECKING:
    from pocketsphinx import Decoder

Segment = tuple[str, int, int]

_BEAM: Final = 1e-20
# A light language model lets the sound decide.
_LANGUAGE_WEIGHT: Final = 2.0
_OPTIONS: Final[dict[str, Any]] = {
    "lw": _LANGUAGE_WEIGHT,
    "beam": _BEAM,
    "pbeam": _BEAM,
    "allphone_ci": True,
    "loglevel": "FATAL",
}


class PhoneDecoder(Protocol):
    """Hears which phones are said when; what it heard before makes no difference."""

    def segments(self, samples: Pcm) -> list[Segment]:
        """Return (phone, first, last) of a stretch of sound, in frames of 10 ms from its start."""


def all_phone_decoder() -> PhoneDecoder:
    """Make a decoder; raises `ImportError` where pocketsphinx is not installed."""
    from pocketsphinx import _pocketsphinx, get_model_path  # noqa: PLC0415  # Slow; optional.

    models = Path(get_model_path()) / "en-us"
    options = _OPTIONS | {
        "hmm": str(models / "en-us"),
        "allphone": str(models / "en-us-phone.lm.bin"),
    }
    try:
        return _FreeDecoder(_functions_of(_pocketsphinx.__file__), options)
    except (OSError, AttributeError):
        return _BoundDecoder(options)


def _functions_of(library: str) -> CDLL:
    """Give the C functions their types; raises `AttributeError` where a build hides one."""
    functions = CDLL(library)
    pointer_to_int = POINTER(c_int)
    types = {
        "ps_config_parse_json": (c_void_p, [c_void_p, c_char_p]),
        "ps_config_free": (c_int, [c_void_p]),
        "ps_init": (c_void_p, [c_void_p]),
        "ps_free": (c_int, [c_void_p]),
        "ps_start_stream": (c_int, [c_void_p]),
        "ps_start_utt": (c_int, [c_void_p]),
        "ps_process_raw": (c_int, [c_void_p, c_void_p, c_size_t, c_int, c_int]),
        "ps_end_utt": (c_int, [c_void_p]),
        "ps_seg_iter": (c_void_p, [c_void_p]),
        "ps_seg_next": (c_void_p, [c_void_p]),
        "ps_seg_word": (c_char_p, [c_void_p]),
        "ps_seg_frames": (None, [c_void_p, pointer_to_int, pointer_to_int]),
    }
    for name, (result, arguments) in types.items():
        function = getattr(functions, name)
        function.restype, function.argtypes = result, arguments
    return functions


class _FreeDecoder:
    """The C functions themselves: `ctypes` lets the interpreter go while one runs."""

    def __init__(self, functions: CDLL, options: dict[str, Any]) -> None:
        self._functions = functions
        config = functions.ps_config_parse_json(None, json.dumps(options).encode())
        self._decoder = functions.ps_init(config)
        functions.ps_config_free(config)
        if not self._decoder:
            raise OSError("pocketsphinx cannot read its model")

    def __del__(self) -> None:
        if getattr(self, "_decoder", None):
            self._functions.ps_free(self._decoder)

    def segments(self, samples: Pcm) -> list[Segment]:
        call, decoder = self._functions, self._decoder
        pcm = np.ascontiguousarray(samples, np.int16)
        call.ps_start_stream(decoder)
        call.ps_start_utt(decoder)
        call.ps_process_raw(decoder, pcm.ctypes.data, len(pcm), 0, 1)
        call.ps_end_utt(decoder)
        found = []
        first, last = c_int(), c_int()
        segment = call.ps_seg_iter(decoder)
        # The step beyond the last one frees the iterator.
        while segment:
            call.ps_seg_frames(segment, byref(first), byref(last))
            found.append((call.ps_seg_word(segment).decode("ascii"), first.value, last.value))
            segment = call.ps_seg_next(segment)
        return found


class _BoundDecoder:
    """The package's own class."""

    def __init__(self, options: dict[str, Any]) -> None:
        from pocketsphinx import Decoder  # noqa: PLC0415  # Slow to load; optional.

        self._decoder: Decoder = Decoder(lm=None, dict=None, **options)

    def segments(self, samples: Pcm) -> list[Segment]:
        # `start_stream` alone would do, but warns.
        self._decoder.reinit_feat()
        self._decoder.start_utt()
        self._decoder.process_raw(samples.tobytes(), no_search=False, full_utt=True)
        self._decoder.end_utt()
        return [
            (found.word, found.start_frame, found.end_frame) for found in self._decoder.seg() or ()
        ]
