"""A skeleton by its name or from a file, for weights that do not say what their keypoints are."""

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vitpose_jax.data.coco.categories import keypoint_categories, skeleton_from_category
from vitpose_jax.errors import UserError
from vitpose_jax.files.json_file import read_json
from vitpose_jax.keypoints.skeletons import KNOWN, Skeleton

log = logging.getLogger(__name__)


def read_skeleton(source: str | Path | Skeleton) -> Skeleton:
    """Read a skeleton.

    Args:
        source: the name of a known skeleton; or a JSON file: a COCO annotation file (or any other
            with `categories`), one entry of `categories`, a list of keypoint names, or the
            config.json of a weights folder. A skeleton is returned as it is.

    Raises:
        UserError: it is neither a known name nor such a file.
    """
    if isinstance(source, Skeleton):
        return source
    known = {skeleton.name: skeleton for skeleton in KNOWN}
    if str(source) in known:
        return known[str(source)]
    if not os.path.exists(source):
        raise UserError(
            f"skeleton {str(source)[:200]!r}: no such file, and none of the known names "
            f"({', '.join(known)})"
        )
    content = read_json(source)
    category = _category(content, str(source))
    if category is None:
        raise UserError(
            f"{source}: no skeleton in it; give a COCO annotation file, one of its 'categories', "
            "or a list of keypoint names"
        )
    if isinstance(category, str) and category in known:
        return known[category]
    if not isinstance(category, Mapping):
        raise UserError(f"{source}: names the skeleton {category!r:.60}, which is not known")
    skeleton, findings = skeleton_from_category(category, str(source))
    for finding in findings:
        log.warning("%s: %s (%s)", source, finding.kind.words, finding.where)
    return skeleton


def _category(content: Any, where: str) -> Any:
    """The part of a file that gives its keypoints: an entry of `categories`, a name, or None."""
    if isinstance(content, list) and content:
        return {"keypoints": content, "name": Path(where).stem}
    if not isinstance(content, Mapping):
        return None
    if isinstance(content.get("categories"), list):
        named = keypoint_categories(content["categories"], where)
        others = [c for c in content["categories"] if isinstance(c, Mapping) and c not in named]
        if others := [c for c in others if c.get("keypoints")]:
            names = ", ".join(str(c.get("name")) for c in (named[0], *others))
            raise UserError(f"{where}: has several categories with keypoints ({names}); keep one")
        return named[0]
    if isinstance(content.get("keypoints"), list):
        return content
    if "decoder" in content:  # config.json of a folder of weights
        content = content.get("skeleton") or content.get("dataset")
    if isinstance(content, Mapping) and "keypoint_names" in content:
        return {
            "name": content.get("name", "custom"),
            "keypoints": content["keypoint_names"],
            "skeleton": _from_one(content.get("limbs") or []),
            **{k: content[k] for k in ("flip_pairs", "sigmas", "upper_body") if k in content},
        }
    return content if isinstance(content, str) else None


def _from_one(limbs: Any) -> Any:
    """Limbs counted from 1, as in COCO; anything that is not a limb stays as it is."""
    if isinstance(limbs, list):
        return [_from_one(part) for part in limbs]
    return limbs + 1 if type(limbs) is int else limbs
