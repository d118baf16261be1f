"""Licences of what an SBOM lists, as Markdown: python deploy/sbom/licences.py service.cdx.json > licences.md"""

import json
import sys
from typing import Any

SHORT = {
    "License :: OSI Approved :: BSD License": "BSD",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
}
UNDECLARED = {"protobuf": "BSD-3-Clause"}  # its metadata names none; its file LICENSE is this


def licences(component: dict[str, Any]) -> str:
    """What a component is licensed under, as its metadata says."""
    told = component.get("licenses", [])
    named = [
        one.get("expression") or one["license"].get("id") or one["license"]["name"] for one in told
    ]
    short = list(dict.fromkeys(SHORT.get(name, name) for name in named))
    return ", ".join(short) or UNDECLARED.get(component["name"], "not declared")


with open(sys.argv[1], encoding="utf-8") as file:
    components = json.load(file)["components"]
print(
    "# Licences of what the service's image holds\n\nWritten by `make sbom` from the packages' own metadata.\n"
)
print("| package | version | licence |\n|---|---|---|")
for component in sorted(components, key=lambda one: one["name"].lower()):
    print(f"| {component['name']} | {component['version']} | {licences(component)} |")
