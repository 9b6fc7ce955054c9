"""Finding the files that annotations name, even if the name is spelled differently."""

from collections.abc import Iterator, Sequence

from etils import epath

from vitpose_jax.files.names import nearest, spelling


class PictureFiles:
    """The files below a folder."""

    def __init__(self, folder: epath.Path) -> None:
        self.paths = list(_paths_below(folder, "")) if folder.exists() else []
        self._by_name: dict[str, list[str]] = {}
        for path in self.paths:
            self._by_name.setdefault(_base(path), []).append(path)

    def respelled(self, names: Sequence[str], present: set[str]) -> dict[str, str]:
        """Find the files of names that do not exist exactly as written.

        Case, accents, `\\`, `%20` and `:` may be written differently, and either path may
        have extra leading folders. A file that fits two names, or is already used, is not matched.

        Args:
            names: from the annotations.
            present: names that exist exactly as written.
        """
        found: dict[str, str] = {}
        taken: dict[str, str] = {}
        for name in names:
            wanted = spelling(name)
            fitting = [path for path in self._by_name.get(_base(name), ()) if _same(wanted, path)]
            exact = [path for path in fitting if spelling(path) == wanted]
            for path in (exact or fitting) if len(exact or fitting) == 1 else ():
                if path in taken:
                    found.pop(taken[path], None)
                elif path not in present:
                    found[name] = path
                taken.setdefault(path, name)
        return found

    def nearest(self, name: str) -> str | None:
        """The file with the most similar name, if any is similar."""
        return nearest(name, self.paths[:20_000])


def _base(path: str) -> str:
    return spelling(path).rpartition("/")[2]


def _same(wanted: str, path: str) -> bool:
    """Whether one is the end of the other."""
    ours, theirs = f"/{wanted}", f"/{spelling(path)}"
    return ours.endswith(theirs) or theirs.endswith(ours)


def _paths_below(folder: epath.Path, prefix: str, depth: int = 6) -> Iterator[str]:
    """Paths of all files, relative to the folder."""
    for entry in folder.iterdir():
        if entry.name.startswith("."):
            continue
        if depth and entry.is_dir():
            yield from _paths_below(entry, f"{prefix}{entry.name}/", depth - 1)
        else:
            yield prefix + entry.name
