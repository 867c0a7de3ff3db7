"""Changes between the data manifests of a run, which data.json contains."""

from collections.abc import Mapping


def manifest_differences(old: Mapping, new: Mapping) -> str:
    """A short description of the changes between two data manifests; empty if there are none."""
    rows = []
    for split in sorted(set(old) | set(new)):
        before, after = old.get(split), new.get(split)
        if before == after:
            continue
        if not (are_mappings(before) and are_mappings(after)):
            rows.append(f"{split}: {before} -> {after}")
            continue
        known, found = ({entry.get("id"): entry for entry in entries or []} for entries in (before, after))
        parts = {
            "missing": [name for name in known if name not in found],
            "new": [name for name in found if name not in known],
            "other content": [name for name in known if name in found and known[name] != found[name]],
        }
        said = [f"{len(names)} {what}, e.g. {names[0]}" for what, names in parts.items() if names]
        rows.append(f"{split}: {', '.join(said) or 'other order'}")
    return "; ".join(rows)


def are_mappings(entries: object) -> bool:
    return isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
