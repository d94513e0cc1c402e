"""A store in a folder of this machine, or one mounted on it: an object is a file."""

from __future__ import annotations

from pathlib import Path

from inference.stores.base import FOLDER, MAX_OBJECT_BYTES, Access, StoreError, StoreKind


class LocalFolder:
    """Objects as files. Names that would leave the folder are refused."""

    def __init__(self, folder: Path) -> None:
        """Raises StoreError where there is no such folder."""
        if not folder.is_dir():
            raise StoreError(f"{folder}: expected a folder")
        self.folder = folder

    @property
    def where(self) -> str:
        """The folder's path."""
        return str(self.folder.resolve())

    def read(self, name: str) -> bytes | None:
        """A file's bytes; None where there is none of that name. Raises StoreError where it cannot be read."""
        path = self._path(name)
        try:
            if path.stat().st_size > MAX_OBJECT_BYTES:
                raise StoreError(f"{name}: larger than {MAX_OBJECT_BYTES} bytes")
            return path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise StoreError(f"{name}: {error.strerror}") from error

    def write(self, name: str, content: bytes) -> None:
        """Keep an object; a reader never sees half of it."""
        target = self._path(name)
        part = target.with_name(f"{target.name}.part")
        part.write_bytes(content)
        part.replace(target)

    def _path(self, name: str) -> Path:
        path = self.folder / name
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise StoreError(f"{name}: not within {self.folder}")
        return path


def _build(address: str, _access: Access) -> LocalFolder:
    return LocalFolder(Path(address))


STORE = StoreKind(FOLDER, _build)
