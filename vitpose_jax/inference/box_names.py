"""Matching the user's pictures and videos to the names in a box file."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from vitpose_jax.data.coco.ids import Id
from vitpose_jax.files.formats import IMAGE_SUFFIXES
from vitpose_jax.files.names import spelling, tails
from vitpose_jax.inference.inputs import Source


class PictureNames:
    """Finds the name that a file uses for a source.

    These are tried in order: the source's own name; any end of its path (val2017/1.jpg, 1.jpg); a
    picture's number (image_id); the same names in another spelling; a name in the file that ends
    with the source's (images/1.jpg); a name without a suffix. An inexact match is only used if it
    is the only one.
    """

    def __init__(self, names: set[Id]) -> None:
        """Use the file's names of pictures, or of videos; numbers are image ids."""
        self._names = names
        self._found: dict[Source, Id | None] = {}

    @cached_property
    def _forms(self) -> tuple[dict[str, list[str]], dict[str, list[str]], dict[str, list[str]]]:
        """Names by normalised spelling, by the ends of that, and by number or suffixless name."""
        whole, ends, bare = (defaultdict[str, list[str]](list) for _ in range(3))
        for name in self._names:
            if isinstance(name, str):
                spelled = spelling(name)
                whole[spelled].append(name)
                for end in tails(spelled)[1:]:
                    ends[end].append(name)
                if PurePosixPath(spelled).suffix not in IMAGE_SUFFIXES:
                    bare[spelled].append(name)
                    if spelled.isascii() and spelled.isdigit():
                        bare[spelled.lstrip("0") or "0"].append(name)
        return whole, ends, bare

    def find(self, source: Source) -> Id | None:
        """The name; None if there is none."""
        found = self._exact(source)
        if found is not None:
            return found
        if source not in self._found:
            similar = self.similar(source)
            self._found[source] = similar[0] if len(similar) == 1 else None
        return self._found[source]

    def settle(self, sources: Sequence[Source]) -> None:
        """Reserve each name that matches a source exactly for that source."""
        claimed = {name for source in sources if (name := self._exact(source)) is not None}
        for source in sources:
            if self._exact(source) is None and self.find(source) in claimed:
                self._found[source] = None

    def _exact(self, source: Source) -> Id | None:
        if source.name in self._names:
            return source.name
        names = (*tails(Path(source.location).as_posix()), source.image_id)
        return next((n for n in names if n is not None and n in self._names), None)

    def similar(self, source: Source) -> list[str]:
        """The names that match the source inexactly, by the closest kind of match there is."""
        name, places = spelling(source.name), tails(spelling(source.location))
        whole, ends, bare = self._forms
        stems = [str(PurePosixPath(place).with_suffix("")) for place in (name, *places)]
        stems += [] if source.image_id is None else [str(source.image_id)]
        tried = [(whole, [name, *places]), (ends, [name]), (bare, stems)]
        return next((forms[n] for forms, some in tried for n in some if n in forms), [])
