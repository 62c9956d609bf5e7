"""What the first and last bytes of an audio file promise, read without decoding anything.

A decoder reads a file that lost its end without a word, so the end is looked for here: every
container says in its own way where it stops. The name of the file is never trusted.
"""

from __future__ import annotations

import dataclasses
import os
import struct

HEAD_BYTES = 1 << 16  # where a first MPEG frame is looked for: encoders pad at most some KiB
OGG_PAGE_BYTES = 27 + 255 + 255 * 255  # largest Ogg page (RFC 3533, 2003)
MPEG_CHAIN = 4  # consistent frame headers in a row that noise does not show: 1 in 10^12
MPEG_SLACK_BYTES = 2048  # what encoders disagree on (own header, tags) in the Xing byte count

# Bit rates in kb/s by (MPEG-1?, layer), index 1 to 14 of the header (ISO 11172-3, 13818-3).
_MPEG_RATES = {
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


@dataclasses.dataclass(frozen=True)
class Container:
    """`name` of the format ('' if unknown), the duration its header declares, why it is cut."""

    name: str
    declared_s: float | None = None
    cut: str | None = None


@dataclasses.dataclass(frozen=True)
class MpegFrame:
    """One MPEG audio frame header: length in bytes, samples a channel, rate in Hz."""

    length: int
    samples: int
    sample_rate: int
    side_info: int
    stream: tuple[int, int, int]  # version, layer, rate: the same in every frame of a file


def inspect(fd: int, size: int) -> Container:
    """Name the container of an open file of `size` bytes and find out whether its end is there.

    Reads a few KiB at the start and the end; the file position stays. Raises OSError.

    >>> with open(__file__, "rb") as file:
    ...     inspect(file.fileno(), 100).name
    ''
    """
    start = _skip_id3(fd, size)
    head = os.pread(fd, HEAD_BYTES, start)
    if start and not head:
        return Container("mp3", cut="it ends inside its ID3 tag")
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _wav(fd, size)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        end = 8 + int.from_bytes(head[4:8], "big")
        return Container("aiff", cut=_beyond("FORM chunk", end, size + 1))
    if head[:4] == b"fLaC":
        return _flac(head)
    if head[:4] == b"OggS":
        return _ogg(fd, size, head)
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return _mp4(fd, size)
    at = _first_frame(head, start + len(head) == size)
    return Container("") if at is None else _mpeg(fd, size, start + at)


def _beyond(what: str, end: int, size: int) -> str | None:
    return f"its {what} ends at byte {end} of {size}" if end > size else None


def _skip_id3(fd: int, size: int) -> int:
    start = 0
    for _ in range(8):  # tools that append instead of replacing leave several tags
        head = os.pread(fd, 10, start)
        if head[:3] != b"ID3" or len(head) < 10:
            break
        a, b, c, d = head[6:10]
        start += 10 + (a << 21 | b << 14 | c << 7 | d) + (10 if head[5] & 0x10 else 0)
    return min(start, size)


def _wav(fd: int, size: int) -> Container:
    at, byte_rate, block, long_size = 12, 0, 1, None
    for _ in range(1000):
        head = os.pread(fd, 40, at)
        if len(head) < 8:
            return Container("wav", cut="it ends before its data chunk")
        name, length = head[:4], int.from_bytes(head[4:8], "little")
        if name == b"ds64" and len(head) >= 24:
            long_size = int.from_bytes(head[16:24], "little")
        elif name == b"fmt " and len(head) >= 24:
            byte_rate, block = struct.unpack_from("<IH", head, 16)
        elif name == b"data":
            there = size - at - 8
            if length == 0xFFFFFFFF and long_size is not None:
                length = long_size
            if length in (0, 0xFFFFFFFF):  # a stream of unknown length: it ends with the file
                length = there
            cut = _beyond("data chunk", at + 8 + length, size + max(block, 1))
            return Container("wav", length / byte_rate if byte_rate else None, cut)
        at += 8 + length + length % 2
    return Container("wav")


def _flac(head: bytes) -> Container:
    if len(head) < 42:
        return Container("flac", cut="it ends inside its header")
    bits = int.from_bytes(head[18:26], "big")  # rate 20, channels 3, depth 5, samples 36 bits
    rate, total = bits >> 44, bits & ((1 << 36) - 1)
    return Container("flac", total / rate if rate and total else None)


def _ogg(fd: int, size: int, head: bytes) -> Container:
    tail_at = max(0, size - 2 * OGG_PAGE_BYTES)
    tail = os.pread(fd, size - tail_at, tail_at)
    at = tail.rfind(b"OggS\0")
    page = tail[at:]
    if at < 0 or len(page) < 27:
        return Container("ogg", cut="its last page is cut")
    table = page[27 : 27 + page[26]]
    if len(table) < page[26] or 27 + len(table) + sum(table) > len(page):
        return Container("ogg", cut="its last page is cut")
    granule = int.from_bytes(page[6:14], "little", signed=True)  # samples up to here
    if granule and not page[5] & 4:
        return Container("ogg", cut="its last page is not marked as the end of the stream")
    first = head[27 + head[26] :] if len(head) > 27 else b""
    rate, skip = 0, 0
    if first[:8] == b"OpusHead" and len(first) >= 12:
        rate, skip = 48000, int.from_bytes(first[10:12], "little")
    elif first[:7] == b"\x01vorbis" and len(first) >= 16:
        rate = int.from_bytes(first[12:16], "little")
    known = rate > 0 and granule >= 0 and page[14:18] == head[14:18]
    return Container("ogg", max(0, granule - skip) / rate if known else None)


def _mp4(fd: int, size: int) -> Container:
    at = 0
    names: set[bytes] = set()
    while at + 8 <= size:
        head = os.pread(fd, 16, at)
        length, name = int.from_bytes(head[:4], "big"), head[4:8]
        if length == 1 and len(head) == 16:
            length = int.from_bytes(head[8:16], "big")
        elif length == 0:  # the last box, up to the end of the file
            length = size - at
        if length < 8:
            break
        names.add(name)
        at += length
    if b"moov" not in names or at > size:
        missing = _beyond("last box", at, size) or "it has no moov box"
        return Container("mp4", cut=missing)
    return Container("mp4")


def mpeg_frame(head: bytes, at: int = 0) -> MpegFrame | None:
    """Parse the MPEG audio frame header at `at` (ISO 11172-3, 1993); None if there is none.

    >>> mpeg_frame(bytes([0xFF, 0xFB, 0x90, 0x00])).length  # 128 kb/s at 44.1 kHz
    417
    """
    if at + 4 > len(head) or head[at] != 0xFF or head[at + 1] & 0xE0 != 0xE0:
        return None
    version, layer = head[at + 1] >> 3 & 3, 4 - (head[at + 1] >> 1 & 3)
    rate_index, frequency, padding = head[at + 2] >> 4, head[at + 2] >> 2 & 3, head[at + 2] >> 1 & 1
    if version == 1 or layer == 4 or rate_index in (0, 15) or frequency == 3:
        return None
    mpeg1, mono = version == 3, head[at + 3] >> 6 == 3
    rate = (44100, 48000, 32000)[frequency] >> {3: 0, 2: 1, 0: 2}[version]
    bits = _MPEG_RATES[mpeg1, layer][rate_index - 1] * 1000
    samples = 384 if layer == 1 else 576 if layer == 3 and not mpeg1 else 1152
    slot = 4 if layer == 1 else 1
    length = (samples // 8 * bits // (rate * slot) + padding) * slot
    side = (17 if mono else 32) if mpeg1 else (9 if mono else 17)
    return MpegFrame(length, samples, rate, side, (version, layer, rate))


def _chain(data: bytes, at: int, limit: int) -> tuple[int, int]:
    """Follow frames from `at`: how many (at most `limit`) lie whole or cut, and where they end."""
    frame = mpeg_frame(data, at)
    stream = frame.stream if frame else None
    count = 0
    while frame is not None and frame.stream == stream and count < limit:
        count, at = count + 1, at + frame.length
        frame = mpeg_frame(data, at)
    return count, at


def _first_frame(head: bytes, whole: bool) -> int | None:
    """Where the first of MPEG_CHAIN frames starts; fewer must fill a file (`whole`) exactly."""
    at = head.find(b"\xff")
    while at >= 0:
        count, end = _chain(head, at, MPEG_CHAIN)
        if count == MPEG_CHAIN or (count and whole and end == len(head)):
            return at
        at = head.find(b"\xff", at + 1)
    return None


def _mpeg(fd: int, size: int, start: int) -> Container:
    head = os.pread(fd, 256, start)
    frame = mpeg_frame(head)
    if frame is None:
        return Container("mp3")
    end = _strip_tags(fd, size)
    declared, cut = None, None
    at = 4 + frame.side_info
    if head[at : at + 4] in (b"Xing", b"Info"):
        flags, first, second = struct.unpack_from(">III", head, at + 4)
        if flags & 1:
            declared = first * frame.samples / frame.sample_rate
        length = (second if flags & 1 else first) if flags & 2 else 0
        if length > end - start + MPEG_SLACK_BYTES:
            cut = f"its header declares {length} bytes of audio and {end - start} are there"
    return Container("mp3", declared, cut or _last_frame_cut(fd, start, end))


def _strip_tags(fd: int, size: int) -> int:
    """Where the audio ends before ID3v1 and APE tags."""
    end = size
    if os.pread(fd, 3, end - 128 if end > 128 else end) == b"TAG":
        end -= 128
    footer = os.pread(fd, 32, end - 32) if end > 32 else b""
    if footer[:8] == b"APETAGEX":
        length, _, flags = struct.unpack_from("<III", footer, 12)
        end = max(0, end - length - (32 if flags >> 31 else 0))
    return end


def _last_frame_cut(fd: int, start: int, end: int) -> str | None:
    """Follow the frames of the last KiB: do they stop in the middle of one?

    What follows a whole frame and is none itself (padding, an unknown tag) is not a cut.
    """
    tail_at = max(start, end - (1 << 14))
    tail = os.pread(fd, end - tail_at, tail_at)
    at = tail.find(b"\xff")
    while at >= 0:
        count, stop = _chain(tail, at, len(tail))
        if count >= MPEG_CHAIN:
            return "its last frame is cut" if stop > len(tail) else None
        at = tail.find(b"\xff", at + 1)
    return None
