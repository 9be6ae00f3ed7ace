"""Lists in requests to the tracker: the JSON text of their items, and parts of a bounded size. Sends nothing.

A proxy in front of the tracker limits the bytes of a request, nginx by default to 1 MiB. Each item is encoded once, and
the bytes of the texts decide where a part ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from json.encoder import encode_basestring_ascii
from typing import Generic, NamedTuple, TypeVar

from daemon.models import IndexEntry, Version

T = TypeVar("T")

# The most bytes of one request.
REQUEST_BYTES_MAX = 512 << 10
# What a request may have beside its list: keys, and versions of at most 64 characters.
_ENVELOPE_BYTES = 512
_SEPARATOR = ", "
_JSON_OF_BOOL = {True: "true", False: "false", None: "null"}

# Each takes a third of the time of a dict and json.dumps, and the same text results.
text_of_string: Callable[[str], str] = encode_basestring_ascii


def text_of_entry(file: IndexEntry) -> str:
    """Return the JSON text of an index entry, without its attributes: a tracker of protocol 1 refuses them."""
    name, complete = encode_basestring_ascii(file.name), "true" if file.complete else "false"
    return f'{{"name": {name}, "id": "{file.id}", "size": {file.size}, "complete": {complete}}}'


def text_of_entry_with_attributes(file: IndexEntry) -> str:
    """Return the JSON text of an index entry, with its attributes."""
    name, attributes = encode_basestring_ascii(file.name), file.attributes
    if attributes is None:
        return text_of_entry(file)
    complete = "true" if file.complete else "false"
    modified = "null" if attributes.modified is None else attributes.modified
    executable = _JSON_OF_BOOL[attributes.executable]
    return (
        f'{{"name": {name}, "id": "{file.id}", "size": {file.size}, "complete": {complete}, '
        f'"modified": {modified}, "executable": {executable}}}'
    )


def text_of_removal(name: str, id_: str) -> str:
    """Return the JSON text of an entry to remove."""
    return f'{{"name": {encode_basestring_ascii(name)}, "id": "{id_}"}}'


def entry_encoder(protocol: int) -> Callable[[IndexEntry], str]:
    """Return what writes an index entry for a tracker of this protocol."""
    return text_of_entry_with_attributes if protocol >= 2 else text_of_entry


def change_encoder(protocol: int) -> Callable[[IndexEntry | tuple[str, str]], str]:
    """Return what writes an entry to add, or the name and id of one to remove, for a tracker of this protocol."""
    text_of = entry_encoder(protocol)
    return lambda change: text_of(change) if isinstance(change, IndexEntry) else text_of_removal(*change)


def text_of_version(file: Version) -> str:
    """Return the JSON text of a file to place."""
    return f'{{"name": {encode_basestring_ascii(file.name)}, "id": "{file.id}", "size": {file.size}}}'


def text_of_patch(base: str, version: str, added: str, removed: str) -> str:
    """Return the body of PATCH /index; `added` and `removed` are the items of two lists."""
    versions = f'"base_version": {text_of_string(base)}, "version": {text_of_string(version)}'
    return f'{{{versions}, "add": [{added}], "remove": [{removed}]}}'


class Part(NamedTuple):
    """Consecutive items of a list as JSON text, at least one unless the list is empty."""

    # The index of the first item in the list.
    start: int
    texts: list[str]
    # Whether the part ends the list.
    is_last: bool

    @property
    def end(self) -> int:
        """The index of the item after the last one."""
        return self.start + len(self.texts)

    @property
    def text(self) -> str:
        """The items as they stand between the brackets of a JSON list."""
        return _SEPARATOR.join(self.texts)

    def split(self, index: int) -> tuple[str, str]:
        """Return the items before that index of the list, and those from it on, both as `text`."""
        count = max(0, index - self.start)
        return _SEPARATOR.join(self.texts[:count]), _SEPARATOR.join(self.texts[count:])


class ListParts(Generic[T]):
    """Splits a list into parts. A part that was refused is put back, and then taken in smaller ones."""

    def __init__(self, items: Sequence[T], encode: Callable[[T], str], most: int) -> None:
        """Encode nothing yet.

        Args:
            items: the list.
            encode: returns the JSON text of an item.
            most: the most items of a part.
        """
        self._items = items
        self._encode = encode
        self._most = most
        self._start = 0
        # The texts of the items from `_start` on that are encoded already.
        self._texts: list[str] = []

    @property
    def left(self) -> bool:
        """Whether items are left."""
        return self._start < len(self._items)

    def take(self, request_bytes: int) -> Part:
        """Return the next part. A request with it has at most `request_bytes`, unless a single item is larger."""
        encoded = self._start + len(self._texts)
        self._texts += map(self._encode, self._items[encoded : self._start + self._most])
        room, count = request_bytes - _ENVELOPE_BYTES, 0
        for text in self._texts:
            room -= len(text) + len(_SEPARATOR)
            if room < 0 and count:
                break
            count += 1
        part = Part(self._start, self._texts[:count], self._start + count == len(self._items))
        del self._texts[:count]
        self._start += count
        return part

    def put_back(self, part: Part) -> None:
        """Undo the last `take`, which returned `part`."""
        self._start = part.start
        self._texts[:0] = part.texts
