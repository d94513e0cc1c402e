"""The key of digests: from the environment or a file. For every settings class of a program that makes digests."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, Field, SecretStr

from inference.hashing import KEY_BYTES


class KeySettings(BaseModel):
    """Settings of the HMAC key; `require_key` checks them where the program needs one."""

    hmac_key: SecretStr | None = Field(default=None, description="key of the digests, at least 32 bytes; or a file")
    hmac_key_file: Path | None = Field(default=None, description="file whose bytes are the key, ends of lines cut off")

    def require_key(self) -> None:
        """Raises ValueError, in words for whoever set it, unless there is exactly one key and it is long enough."""
        if (self.hmac_key is None) == (self.hmac_key_file is None):
            raise ValueError("exactly one of FUSIONWATCH_HMAC_KEY and FUSIONWATCH_HMAC_KEY_FILE must be set")
        try:
            found = len(self.key())
        except OSError as error:
            raise ValueError(f"FUSIONWATCH_HMAC_KEY_FILE: {error.strerror}: {self.hmac_key_file}") from None
        if found < KEY_BYTES:
            raise ValueError(f"the HMAC key has {found} bytes; at least {KEY_BYTES} are needed")

    def key(self) -> bytes:
        """The HMAC key's bytes. Raises OSError where its file cannot be read."""
        if self.hmac_key_file is not None:
            return self.hmac_key_file.read_bytes().rstrip(b"\r\n")
        return self.hmac_key.get_secret_value().encode() if self.hmac_key is not None else b""
