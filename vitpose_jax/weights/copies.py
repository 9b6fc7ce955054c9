"""Choosing a network in a checkpoint that has wrappers' prefixes or averaged (EMA) copies."""

import re
from collections.abc import Collection

from vitpose_jax.errors import UserError

# What DataParallel, torch.compile, FSDP, activation checkpointing and DeepSpeed insert into keys.
WRAPPERS = {
    *("module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"),
    "_forward_module",
}
AVERAGED = re.compile(r"(.*_)?(ema|teacher|momentum|target|swa|averaged)(_.*)?")
# Tensors that every ViT has, the surest first; the part before them is the network's prefix.
LANDMARKS = (
    r"patch_embed\.proj(?:ection)?\.weight",
    r"embeddings\.patch_embeddings\.projection\.weight",
    r"pos_embed",
)
CONTAINERS = ("state_dict.", "model.")
TRAINING_STATE = re.compile(r"(optim|lr_|sched|scaler|amp|rng|loops|callbacks|meta|ema_|steps?$)")


def plain_key(key: str) -> str:
    """The key without the parts that wrappers insert."""
    return ".".join(part for part in key.split(".") if part not in WRAPPERS)


def choose_network(
    keys: Collection[str], ema: bool, where: str
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Choose one network of a checkpoint whose nested dicts are joined by dots.

    A file may hold a network below any prefix (`model.`, `student.`), and a second one with
    averages of its weights (EMA).

    Args:
        keys: all keys of the checkpoint.
        ema: take the averaged copy.
        where: the file, for messages.

    Returns:
        The chosen keys by their names within the network, and notes for the user.

    Raises:
        UserError: several networks, no averaged copy although one was requested, or two tensors of
            the same name.
    """
    plain = {key: plain_key(key) for key in keys}
    places = _places(plain.values())
    copies = [place for place in places if _is_averaged(place)]
    networks = [place for place in places if place not in copies] or copies
    # mmengine swaps them: its state_dict holds the averages, its ema_state_dict the last step's.
    swapped = [place for place in copies if f"{place}steps" in plain.values()]
    notes: list[str] = []
    if swapped and networks != copies:
        notes.append(
            f"took the averaged (EMA) weights, which mmengine keeps in the main place; those of "
            f"the last step, below {swapped[0]!r}, were ignored"
        )
    elif ema and not copies:
        raise UserError(f"{where}: holds no averaged (EMA) copy; leave ema (--ema) out")
    elif ema:
        networks = copies
    elif networks == copies and copies:
        notes.append(f"holds only an averaged (EMA) or teacher's copy, below {copies[0]!r}")
    elif copies:
        notes.append(
            f"passed over an averaged (EMA) or teacher's copy below {copies[0]!r}: "
            "`vitpose convert --ema` takes it"
        )
    if len(networks) > 1:
        raise UserError(
            f"{where}: holds {len(networks)} networks, below {', '.join(map(repr, networks[:4]))}; "
            "save the state dict of one of them alone"
        )
    place = networks[0] if networks else _container(plain.values())
    elsewhere = tuple(other for other in places if other != place and other.startswith(place))
    chosen: dict[str, str] = {}
    for key, name in plain.items():
        if not name.startswith(place) or name.startswith(elsewhere):
            continue
        if chosen.setdefault(name.removeprefix(place), key) != key:
            raise UserError(f"{where}: holds two tensors {name!r}; save one network alone")
    others = [name for name in plain.values() if not name.startswith((place, *places))]
    others = [name for name in others if not TRAINING_STATE.match(name)]
    if others and networks:
        notes.append(
            f"{len(others)} tensors outside {place!r} were left out ({', '.join(others[:3])}, ...)"
        )
    return chosen, tuple(notes)


def _places(names: Collection[str]) -> list[str]:
    """Prefixes of networks, with their dots."""
    for landmark in LANDMARKS:
        pattern = re.compile(rf"(|.*?\.)(?:backbone\.)?{landmark}")
        found = [match.group(1) for name in names if (match := pattern.fullmatch(name))]
        if found := [place for place in found if not place.startswith("optim")]:
            return list(dict.fromkeys(found))
    return []


def _is_averaged(place: str) -> bool:
    return any(AVERAGED.fullmatch(part) for part in place.split("."))


def _container(names: Collection[str]) -> str:
    """The prefix of the usual dicts around a state dict, if no known network was found in it."""
    place = ""
    for container in CONTAINERS:
        if any(name.startswith(place + container) for name in names):
            place += container
    return place
