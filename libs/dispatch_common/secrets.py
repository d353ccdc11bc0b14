"""Sealing of secrets: AES-256-GCM under a key file, a derived key per purpose, the owner bound as associated data.

The key file is made on first start with mode 0600, outside the data folder. Nothing here logs or prints a value.
"""

import contextlib
import hashlib
import os
import secrets as _random
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dispatch_common.errors import InvalidInput, Permanent

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12


class SecretUnreadable(Permanent):
    """A sealed secret cannot be opened: wrong key file, other owner, or damaged."""


class Kek:
    """The key that keys are made from. ``key_id`` names it without telling anything about it."""

    def __init__(self, material: bytes) -> None:
        self._material = material
        self.key_id = hashlib.sha256(b"key-id" + material).hexdigest()[:16]

    def seal(self, *, purpose: str, owner: str, plaintext: bytes) -> bytes:
        """Return nonce and ciphertext; only the same purpose and owner can open it."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + AESGCM(self._key(purpose)).encrypt(nonce, plaintext, owner.encode())

    def open(self, *, purpose: str, owner: str, sealed: bytes) -> bytes:
        """Return the plaintext, or raise SecretUnreadable."""
        try:
            return AESGCM(self._key(purpose)).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], owner.encode())
        except (InvalidTag, ValueError) as error:
            raise SecretUnreadable(
                f"the secret of {owner} for {purpose} cannot be opened with this key file"
            ) from error

    def _key(self, purpose: str) -> bytes:
        return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=purpose.encode()).derive(self._material)


def load_kek(path: Path) -> Kek:
    """Read the key file, or make it on first start; refuse one that others may read."""
    with contextlib.suppress(FileExistsError):  # another process was quicker; its key counts
        _create(path)
    if path.stat().st_mode & 0o077:
        raise InvalidInput(f"{path} can be read by others.", field="DISPATCH_KEK_FILE", remedy=f"Run: chmod 600 {path}")
    material = path.read_bytes()
    if len(material) != _KEY_BYTES:
        raise InvalidInput(
            f"{path} holds {len(material)} bytes instead of {_KEY_BYTES}.",
            field="DISPATCH_KEK_FILE",
            remedy="Restore it from your back-up; without it stored secrets cannot be opened.",
        )
    return Kek(material)


def _create(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        return
    # Written aside and linked into place: another process never sees a half-written key, and the first one wins.
    aside = path.with_name(f".{path.name}.{os.getpid()}.{_random.token_hex(4)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, os.urandom(_KEY_BYTES))
        os.fsync(descriptor)
        os.link(aside, path)
    finally:
        os.close(descriptor)
        aside.unlink()


def new_token(prefix: str) -> str:
    """Return a fresh random token with a recognisable prefix (so that scanners find a leak)."""
    return f"{prefix}_{_random.token_urlsafe(32)}"


def digest_of(token: str) -> str:
    """Return what is stored of a token. Tokens are random, so a plain hash cannot be searched."""
    return hashlib.sha256(token.encode()).hexdigest()
