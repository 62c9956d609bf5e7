"""Files that name other files, or addresses: no worker opens what a file of a catalogue names."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from hashing.audio import decode, encode
from hashing.errors import AudioError
from hashing.excerpts import decode_excerpts

RATE = 8000
# What it takes to make FFmpeg follow anything, as a careless caller would have it.
CARELESS = {
    "safe": "0",
    "allowed_extensions": "ALL",
    "protocol_whitelist": "file,http,tcp,crypto,data,udp,rtp",
}
PLAYLIST = """\
#EXTM3U
#EXT-X-VERSION:3
#EXT-X-TARGETDURATION:3
#EXT-X-MEDIA-SEQUENCE:0
#EXTINF:3.0,
{uri}
#EXT-X-ENDLIST
"""
SESSION = """\
v=0
o=- 0 0 IN IP4 127.0.0.1
s=x
c=IN IP4 127.0.0.1
t=0 0
m=audio {port} RTP/AVP 0
"""
REFERRING = {
    "concat.mp3": "ffconcat version 1.0\nfile {folder}/secret.mp3\n",
    "concat.ffconcat": "ffconcat version 1.0\nfile secret.mp3\n",
    "passwords.mp3": "ffconcat version 1.0\nfile /etc/passwd\n",
    "hls.m3u8": PLAYLIST.replace("{uri}", "secret.mp3"),
    "hls.mp3": PLAYLIST.replace("{uri}", "file://{folder}/secret.mp3"),
    "net.m3u8": PLAYLIST.replace("{uri}", "http://127.0.0.1:{port}/a.mp3"),
    "session.sdp": SESSION,
    "list.m3u": "{folder}/secret.mp3\n",
    "list.mp3": "#EXTM3U\nhttp://127.0.0.1:{port}/a.mp3\n",
}


class Listener:
    """A port of this machine; `calls` is how often somebody has connected."""

    def __init__(self) -> None:
        self.calls = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.calls += 1
            connection.close()

    def close(self) -> None:
        self._server.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    running = Listener()
    yield running
    running.close()


@pytest.fixture
def folder(tmp_path: Path, listener: Listener) -> Path:
    """All of `REFERRING`, and the sound that they refer to."""
    tone = np.sin(np.arange(3 * RATE) * 0.3).astype(np.float32)
    encode(tone, RATE, str(tmp_path / "secret.mp3"), codec="mp3", bit_rate=64_000)
    for name, text in REFERRING.items():
        text = text.replace("{folder}", str(tmp_path)).replace("{port}", str(listener.port))
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize("name", REFERRING)
def test_what_a_file_names_is_not_opened(name: str, folder: Path, listener: Listener) -> None:
    with pytest.raises(AudioError) as caught:
        decode(str(folder / name), RATE)
    assert caught.value.kind == "not-audio"
    with pytest.raises(AudioError, match="is not audio"):
        decode_excerpts(str(folder / name), RATE, lambda seconds: [(0.0, seconds)])
    assert listener.calls == 0


def test_a_careless_decoder_would_open_them(folder: Path, listener: Listener) -> None:
    """Or the test above shows nothing."""

    def samples(name: str, **options: Any) -> int:
        with av.open(str(folder / name), options=options, timeout=5) as container:
            return sum(frame.samples for frame in container.decode(audio=0))

    assert samples("concat.ffconcat") > 2 * RATE
    assert samples("hls.m3u8") > 2 * RATE
    assert samples("concat.mp3", **CARELESS) > 2 * RATE
    with pytest.raises(av.FFmpegError):
        samples("net.m3u8", **CARELESS)
    assert listener.calls > 0
