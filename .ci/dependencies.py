"""The checks of deny.toml that need nothing but Cargo: licences, sources and duplicates; and unused dependencies.

For machines without cargo-deny and cargo-machete, which take minutes to build. The lists are those of deny.toml and of
the crates' [package.metadata.cargo-machete].
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[1]


def cargo(*words):
    """What a command of Cargo prints."""
    return subprocess.run(["cargo", *words], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def packages_for(targets):
    """The packages that these targets are built and tested with, and those of them that are the workspace's.

    `cargo metadata` also has what optional features would need; `cargo tree` hasn't.
    """
    told = json.loads(cargo("metadata", "--locked", "--format-version=1"))
    used = set()
    for target in targets:
        tree = cargo("tree", "--locked", "--workspace", "--edges=all", "--prefix=none", "--target", target)
        used |= {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    packages = [it for it in told["packages"] if (it["name"], f"v{it['version']}") in used]
    return packages, [it for it in packages if it["id"] in told["workspace_members"]]


def is_allowed(expression, allowed):
    """Whether an SPDX expression can be met with the allowed licences. Old manifests write / for OR."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def either():
        result = both()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            result = both() or result
        return result

    def both():
        result = one()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            result = one() and result
        return result

    def one():
        name = tokens.pop(0)
        if name == "(":
            result = either()
            tokens.pop(0)
            return result
        if tokens and tokens[0] == "WITH":
            name = f"{name} WITH {tokens.pop(1)}"
            tokens.pop(0)
        return name in allowed

    return either()


def licences(packages, allowed):
    """Packages whose licence isn't one of ours."""
    for package in packages:
        licence = package["license"]
        if not licence or not is_allowed(licence, allowed):
            yield f"{package['name']} {package['version']} has the licence {licence}, which deny.toml doesn't allow"


def sources(packages, registries):
    """Packages that come from elsewhere than the registries and this repository."""
    known = {f"registry+{registry}" for registry in registries}
    for package in packages:
        if package["source"] and package["source"] not in known:
            yield f"{package['name']} {package['version']} comes from {package['source']}"


def is_version(version, wanted):
    """Whether a version is one of `wanted`, such as 2 or 0.22."""
    return version == wanted or version.startswith(wanted + ".")


def duplicates(packages, skipped):
    """Packages in more versions than one, and exceptions that nothing needs any more."""
    versions = collections.defaultdict(set)
    for package in packages:
        versions[package["name"]].add(package["version"])
    for name, wanted in skipped:
        found = {version for version in versions[name] if is_version(version, wanted)}
        if not found or len(versions[name]) == 1:
            yield f"deny.toml skips {name}@{wanted}, which is no duplicate"
        versions[name] -= found
    for name, found in sorted(versions.items()):
        if len(found) > 1:
            yield f"{name} is there as {', '.join(sorted(found))}: see `cargo tree -d`"


def texts(package):
    """All Rust code of a package, its tests and build script included."""
    files = set()
    for target in package["targets"]:
        path = pathlib.Path(target["src_path"])
        # A build script lies beside the manifest, and what else is there isn't its own.
        files |= {path} if "custom-build" in target["kind"] else set(path.parent.rglob("*.rs"))
    return "\n".join(path.read_text() for path in files)


def unused(members):
    """Dependencies whose name occurs nowhere in the code of the package that has them."""
    for package in members:
        code = texts(package)
        settings = (package["metadata"] or {}).get("cargo-machete", {})
        for dependency in package["dependencies"]:
            name = dependency["rename"] or dependency["name"]
            used = re.search(rf"\b{name.replace('-', '_')}\b", code)
            if not used and name not in settings.get("ignored", []):
                yield f"{package['name']} doesn't use its dependency {name}"


def unclaimed(members):
    """Entries of [workspace.dependencies] that no package has."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    claimed = {dependency["name"] for package in members for dependency in package["dependencies"]}
    for name in manifest["workspace"]["dependencies"]:
        if name not in claimed:
            yield f"no crate of the workspace uses its dependency {name}"


def main():
    rules = tomllib.loads((ROOT / "deny.toml").read_text())
    packages, members = packages_for(rules["graph"]["targets"])
    skipped = [skip["crate"].split("@") for skip in rules["bans"]["skip"]]
    problems = [
        *licences(packages, rules["licenses"]["allow"]),
        *sources(packages, rules["sources"]["allow-registry"]),
        *duplicates(packages, skipped),
        *unused(members),
        *unclaimed(members),
    ]
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    print(f"{len(packages)} packages: licences, sources, duplicates and unused dependencies are in order")
    return 0


if __name__ == "__main__":
    sys.exit(main())
