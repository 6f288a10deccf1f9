"""What `kubectl apply -k` makes of a folder, for the few words of kustomize that our files use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
WORDS = {"apiVersion", "kind", "resources", "components", "patches", "images"}


def render(folder: Path, given: list[Manifest] | None = None) -> list[Manifest]:
    """The objects of a kustomization, or of a component upon objects that are given.

    Raises:
        ValueError: if it has a word that is not understood here.
    """
    custom = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := custom.keys() - WORDS:
        raise ValueError(f"{folder} has {sorted(unknown)}; understood here are {sorted(WORDS)}")
    objects = list(given or [])
    for name in custom.get("resources", ()):
        path = folder / name
        objects += render(path) if path.is_dir() else [yaml.safe_load(path.read_text())]
    for name in custom.get("components", ()):
        objects = render(folder / name, objects)
    for patch in custom.get("patches", ()):
        _patch(objects, patch["target"], yaml.safe_load((folder / patch["path"]).read_text()))
    for image in custom.get("images", ()):
        _tag(objects, image["name"], image["newTag"])
    return objects


def _patch(objects: list[Manifest], target: dict[str, str], steps: list[dict[str, Any]]) -> None:
    matching = [o for o in objects if (o["kind"], o["metadata"]["name"]) == (target["kind"], target["name"])]
    if not matching:
        raise ValueError(f"no object is {target}")
    for step in steps:
        _step(matching[0], step)


def _step(document: Any, step: dict[str, Any]) -> None:
    """One step of RFC 6902."""
    *way, last = (part.replace("~1", "/") for part in step["path"].split("/")[1:])
    for part in way:
        document = document[int(part) if isinstance(document, list) else part]
    if step["op"] == "remove":
        del document[last]
    elif last == "-":
        document.append(step["value"])
    elif step["op"] == "replace" and last not in document:
        raise ValueError(f"there is nothing to replace at {step['path']}")
    else:
        document[last] = step["value"]


def _tag(objects: list[Manifest], name: str, tag: str) -> None:
    for manifest in objects:
        for container in containers(manifest):
            if container["image"].split(":")[0] == name:
                container["image"] = f"{name}:{tag}"


def containers(manifest: Manifest) -> list[dict[str, Any]]:
    """Of a manifest that has any."""
    spec = manifest.get("spec", {})
    return list(spec.get("template", {}).get("spec", {}).get("containers", spec.get("containers", ())))
