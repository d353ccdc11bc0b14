"""The blob store of one machine: immutable files named by their sha256. Rows hold digest and size, never the bytes."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dispatch_common.errors import Permanent
from dispatch_common.values import BlobRef


class BlobMissing(Permanent):
    """A blob that a row names is not in the store."""


class BlobDamaged(Permanent):
    """A blob's bytes are not what its name says."""


class Blobs:
    """A folder of blobs. Writing the same bytes twice is harmless; a half-written blob is never seen."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, ref: BlobRef) -> Path:
        """Return where the blob is (or would be)."""
        return self.root / ref.digest[:2] / ref.digest

    async def put(self, content: bytes | Path) -> BlobRef:
        """Store bytes or a file durably and return its name and size."""
        return await asyncio.to_thread(self._put, content)

    async def get(self, ref: BlobRef) -> bytes:
        """Return the bytes, verified; BlobMissing or BlobDamaged otherwise."""
        return await asyncio.to_thread(self._get, ref)

    def _get(self, ref: BlobRef) -> bytes:
        try:
            content = self.path(ref).read_bytes()
        except FileNotFoundError as error:
            raise BlobMissing(f"blob {ref.digest} is missing from {self.root}") from error
        if hashlib.sha256(content).hexdigest() != ref.digest:
            raise BlobDamaged(f"blob {ref.digest} in {self.root} is damaged")
        return content

    def _put(self, content: bytes | Path) -> BlobRef:
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        digest, size = hashlib.sha256(), 0
        with tempfile.NamedTemporaryFile(dir=self.root, prefix=".new-", delete=False) as new:
            for chunk in _chunks(content):
                digest.update(chunk)
                size += len(chunk)
                new.write(chunk)
            new.flush()
            os.fsync(new.fileno())
        ref = BlobRef(digest=digest.hexdigest(), size=size)
        target = self.path(ref)
        target.parent.mkdir(exist_ok=True, mode=0o700)
        Path(new.name).replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return ref


def _chunks(content: bytes | Path) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield content
        return
    with content.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk
