"""What is wrong with the kubeconfig in use, in kubectl's own words: they can be searched for.

The Python client says less: of a context that is gone only that the file is invalid, of a credential plugin that is not
installed nothing at all, and asks without credentials.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

HOME = "~/.kube/config"


def fault(environment: Mapping[str, str] = os.environ) -> str | None:
    """The first fault of the files that ``$KUBECONFIG`` names, else of ``~/.kube/config``; None: none, or no file."""
    named = environment.get("KUBECONFIG") or HOME
    files = [Path(name).expanduser() for name in named.split(os.pathsep) if name]
    merged: dict[str, Any] = {}
    for file in filter(Path.is_file, files):
        try:
            read = yaml.safe_load(file.read_text()) or {}
            if not isinstance(read, dict):
                raise ValueError("not a mapping")
        except (OSError, ValueError, yaml.YAMLError) as exc:
            return f'error: error loading config file "{file}": {" ".join(str(exc).split())[:300]}'
        for key, value in read.items():
            if isinstance(value, list):
                merged[key] = [*merged.get(key, ()), *value]
            else:
                merged.setdefault(key, value)
    return _fault_of(merged, environment.get("PATH")) if merged.get("contexts") else None


def _fault_of(config: Mapping[str, Any], path: str | None) -> str | None:
    name = config.get("current-context")
    if not name:
        return "error: current-context is not set"
    context = _named(config, "contexts", "context", name)
    if context is None:
        return f"Error in configuration: context was not found for specified context: {name}"
    cluster, user = context.get("cluster"), context.get("user")
    if _named(config, "clusters", "cluster", cluster) is None:
        return f'Error in configuration: cluster "{cluster}" does not exist'
    account = _named(config, "users", "user", user) if user else {}
    if account is None:
        return f'Error in configuration: user "{user}" does not exist'
    command = (account.get("exec") or {}).get("command")
    if command and shutil.which(command, path=path) is None:
        return f"Unable to connect to the server: getting credentials: exec: executable {command} not found"
    return None


def _named(config: Mapping[str, Any], plural: str, kind: str, name: object) -> Mapping[str, Any] | None:
    for each in config.get(plural) or ():
        if isinstance(each, dict) and each.get("name") == name:
            return each.get(kind) or {}
    return None
