"""The file format of hash tables: what a shard's header says, and where its arrays stand.

A *posting* is the number of a snippet within its segment, counted through the tracks in order
(`gid`, uint32). One shard file holds the postings of one table of one segment for one range of
keys, sorted by key and then by gid. Little-endian; every array starts at a multiple of 64 bytes:

=========  ==========================================================================
header     64 bytes: magic, format version, table, key bits, segment, kind of directory,
           key_lo, key_hi (exclusive), postings, directory entries
directory  dense: offsets uint32 ``[key_hi - key_lo + 1]``.
           sparse: the n distinct keys uint32 ``[n]``, then their offsets uint32 ``[n + 1]``.
           ranked: a block for each 64 keys, uint32 ``[blocks + 1, 4]``: a bitmap of the keys
           that have postings (two words), how many keys and how many postings stand before
           the block; then where the bucket of each of the n distinct keys starts, counted
           from its block's first posting, uint16 ``[n]``
postings   uint32 ``[postings]``
=========  ==========================================================================

The dense directory is read with one access and serves full tables; a ranked one (a bitmap with
ranks: Jacobson 1989) takes about 2 bytes a posting where buckets hold one posting or less, as they
do when keys are chosen for a small catalogue; a sparse one serves nearly empty tables.

Offsets within a shard are 32-bit, since a shard holds fewer than 2**32 postings; what is counted
over shards is a Python integer. `hashing.tables` builds shards, `hashing.shards` reads them.
"""

from __future__ import annotations

import dataclasses
import struct

from hashing.codes import MAX_KEY_BITS
from hashing.errors import IndexFormatError

MAGIC = b"HBTABLE\0"
FORMAT_VERSION = 1
HEADER_BYTES = 64
ALIGN_BYTES = 64  # a cache line: an offset and its successor are mostly fetched together
DENSE, SPARSE, RANKED = 0, 1, 2
BLOCK_KEYS = 64  # keys of a block of a ranked directory: the bits of a word
MAX_GIDS = 2**32 - 1  # snippets of a segment and postings of a shard: both are counted in a uint32
REMEDY = "run `hashbeam verify` on the index, then rebuild it"

_HEADER = struct.Struct("<8sIHHIB3xQQQQ8x")


@dataclasses.dataclass(frozen=True)
class ShardHeader:
    """The header of a shard, and the places of its arrays.

    >>> header = ShardHeader(3, 22, 0, DENSE, 0, 4, postings=10, entries=4)
    >>> header.offsets_at, header.postings_at, header.file_bytes
    (64, 128, 168)
    """

    table: int
    key_bits: int
    segment: int
    kind: int
    key_lo: int
    key_hi: int
    postings: int
    entries: int

    @property
    def offsets_at(self) -> int:
        """Byte at which the second array of the directory starts; of a dense one, the only one."""
        if self.kind == RANKED:
            return HEADER_BYTES + aligned(16 * (self.blocks + 1))
        return HEADER_BYTES + (aligned(4 * self.entries) if self.kind == SPARSE else 0)

    @property
    def blocks(self) -> int:
        """Blocks of a ranked directory over this range of keys."""
        return -(-(self.key_hi - self.key_lo) // BLOCK_KEYS)

    @property
    def postings_at(self) -> int:
        """Byte at which the postings start."""
        offsets = 2 * self.entries if self.kind == RANKED else 4 * (self.entries + 1)
        return self.offsets_at + aligned(offsets)

    @property
    def file_bytes(self) -> int:
        """Length of the whole file."""
        return self.postings_at + 4 * self.postings

    def to_bytes(self) -> bytes:
        """The 64 bytes that a shard begins with."""
        # The fields stand in the order of the header.
        return _HEADER.pack(MAGIC, FORMAT_VERSION, *dataclasses.astuple(self))

    @classmethod
    def from_bytes(cls, data: bytes, name: str, file_bytes: int) -> ShardHeader:
        """Read and check a header.

        Args:
            data: at least the first 64 bytes of the file, fewer if it is shorter.
            name: what messages call the file.
            file_bytes: true length of the file, which the header must imply exactly.

        Raises:
            IndexFormatError: not a shard, another format version, damaged, or truncated.
        """
        if len(data) < HEADER_BYTES:
            raise IndexFormatError(
                f"{name} is truncated: {file_bytes} bytes are fewer than a header; {REMEDY}"
            )
        magic, version, *numbers = _HEADER.unpack_from(data)
        if magic != MAGIC:
            raise IndexFormatError(f"{name} is not a hash table shard (wrong magic); {REMEDY}")
        if version != FORMAT_VERSION:
            raise IndexFormatError(
                f"{name} has table format version {version}, this hashbeam reads "
                f"{FORMAT_VERSION}; use the hashbeam that wrote it, or rebuild the index"
            )
        header = cls(*numbers)
        header._check(name)
        if header.file_bytes != file_bytes:
            what = "truncated" if file_bytes < header.file_bytes else "damaged"
            raise IndexFormatError(
                f"{name} is {what}: bytes={file_bytes}, its header says {header.file_bytes}; "
                f"{REMEDY}"
            )
        return header

    def _check(self, name: str) -> None:
        span = self.key_hi - self.key_lo
        most = span if self.kind == DENSE else min(span, self.postings)
        sound = (
            1 <= self.key_bits <= MAX_KEY_BITS
            and self.kind in (DENSE, SPARSE, RANKED)
            and 0 <= self.key_lo < self.key_hi <= 2**self.key_bits
            and self.postings <= MAX_GIDS
            and self.entries <= most
            and (self.kind != DENSE or self.entries == span)
            and (self.kind != RANKED or self.entries > 0)
        )
        if not sound:
            raise IndexFormatError(f"{name} is damaged: impossible header {self}; {REMEDY}")


def aligned(size: int) -> int:
    """The next multiple of 64 bytes.

    >>> aligned(0), aligned(1), aligned(64)
    (0, 64, 64)
    """
    return -(-size // ALIGN_BYTES) * ALIGN_BYTES
