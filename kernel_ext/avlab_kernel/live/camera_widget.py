"""The widget of a source in the browser: it carries messages between camera.js and the side that takes the media."""

from __future__ import annotations

from pathlib import Path

from .widget import LiveView, module

_HERE = Path(__file__).parent


class CaptureView(LiveView):
    """Start button, device menu, level and own picture of a camera, microphone or screen. Nothing of it is kept in the notebook."""

    _esm = module("camera_capture.js", "camera_messages.js", "camera_direct.js", "camera_path.js", "camera.js")
    _css = "\n".join((_HERE / name).read_text(encoding="utf-8") for name in ("view.css", "camera.css"))
