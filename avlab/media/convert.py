"""Steps that bring pictures to a format and size, with colors that players show as they were meant."""

from __future__ import annotations

from typing import Any

import av

from avlab.media.chain import Step, option_text


def picture_steps(frame: Any, form: str, size: tuple[int, int]) -> list[Step]:
    """The chain from pictures like ``frame`` to pixel format ``form`` and ``size``; ``null`` when there is nothing to do.

    RGB becomes BT.709 from 720 rows on and BT.601 below, limited range (yuvj: full), and is marked so: what players assume.
    """
    if (frame.format.name, frame.width, frame.height) == (form, *size):
        return [("null", "")]
    options = {"w": size[0], "h": size[1], "flags": "bicubic"}
    if frame.format.is_rgb and not av.VideoFormat(form).is_rgb and not form.startswith("gray"):
        options["out_color_matrix"] = "bt709" if size[1] >= 720 else "smpte170m"
        options["out_range"] = "full" if form.startswith("yuvj") else "limited"
    return [("scale", option_text(options)), ("format", "pix_fmts=" + form)]
