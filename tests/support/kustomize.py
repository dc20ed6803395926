"""A kustomization resolved without kubectl: `resources` and `images`, which is all that ours use."""

from pathlib import Path
from typing import Any

import yaml

KNOWN = {"apiVersion", "kind", "resources", "images"}


def resolved(folder: Path) -> list[dict[str, Any]]:
    """The manifests that a kustomization stands for."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(kustomization) - KNOWN:
        raise NotImplementedError(f"kustomization.yaml uses {unknown}; here only {KNOWN} are understood")
    manifests = [
        doc for name in kustomization["resources"] for doc in yaml.safe_load_all((folder / name).read_text())
    ]
    images = {
        each["name"]: f"{each.get('newName', each['name'])}:{each['newTag']}"
        for each in kustomization["images"]
    }
    for manifest in manifests:
        if manifest["kind"] == "Deployment":
            for container in manifest["spec"]["template"]["spec"]["containers"]:
                container["image"] = images.get(container["image"], container["image"])
    return manifests
