"""List, check, export and collect the artifacts of a store.

The store is the one in runs/artifacts, or --store URI, or that of --sweep NAME|SWEEP.yaml. A key may be shortened.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.console.command import NOT_ALL_WELL, command, run
from orchestrator.console.parser import refuse_idle
from orchestrator.console.streams import output_is_lost
from orchestrator.text import many

if TYPE_CHECKING:
    from workers.artifacts.store import ArtifactStore

FILES_SHOWN = 20
BEST = "best"
EXPORTS = {"labels": "label map", "cams": "CAM file", "weights": "weight file", "segmenter": "weight file"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(store=None, endpoint=None, sweep=None, runs="runs")
    _add_place(parser)
    place = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_place(place)  # behind a sub-command too; where it is given to neither, the defaults stand
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, words: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=words, description=words, parents=[place])

    listing = add("ls", "artifacts, one a line: key, files, bytes, seconds, when")
    listing.add_argument("stage", nargs="?", help="only those of one stage, such as pseudo_label")
    show = add("show", "record, files and lineage of one artifact")
    show.add_argument("key")
    show.add_argument("--json", action="store_true")
    verify = add("verify", "read every byte and compare it with its digest")
    verify.add_argument("keys", nargs="*", metavar="KEY", help="default: all")
    verify.add_argument("--discard", action="store_true", help="forget what is damaged, so that it is computed again")
    export = add("export", "write labels, CAMs or weights into a new folder, for other programs and `aream infer`")
    export.add_argument(
        "key", metavar="KEY|best", help="of pseudo-labels, or best: the first of the ranking of --sweep"
    )
    export.add_argument(
        "--what",
        choices=tuple(EXPORTS),
        default="labels",
        help="labels: PASCAL VOC's layout (default); cams: ID.npy with a dict of maps; weights: the host behind the "
        "labels, with model.json; segmenter: the one trained on them (these two need --sweep)",
    )
    export.add_argument("folder", type=Path, metavar="FOLDER")
    add("sweeps", "sweeps that name artifacts of this store")
    collect = add("gc", "remove what no sweep names")
    collect.add_argument("--dry-run", action="store_true", help="say what would be removed")
    collect.add_argument(
        "--grace", type=float, default=24.0, metavar="HOURS", help="keep what is younger (default: 24)"
    )
    collect.add_argument("--forget", metavar="SWEEP", help="first drop this sweep's claim on its artifacts (its id)")


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="URI", help="a folder, file:///FOLDER or s3://BUCKET/PREFIX")
    parser.add_argument("--endpoint", metavar="URL", help="of a server that speaks S3")
    parser.add_argument("--sweep", metavar="NAME|SWEEP.yaml", help="use the store of this sweep")
    parser.add_argument("--runs", metavar="FOLDER", help="the runs folder (default: runs)")


@command(
    add_arguments,
    """
%(prog)s ls pseudo_label
%(prog)s show KEY --sweep thresholds
%(prog)s verify                   # reads every byte
%(prog)s export KEY FOLDER        # pseudo-labels in PASCAL VOC's layout
%(prog)s export best FOLDER --sweep thresholds --what weights
%(prog)s gc --dry-run --grace 48
""",
    {NOT_ALL_WELL: "an artifact is damaged"},
)
def main(options: argparse.Namespace) -> int:
    return int(COMMANDS[options.command](_open(options), options))


def _open(options: argparse.Namespace) -> ArtifactStore:
    """Raises ``ConfigError`` where nothing was ever stored: a name with a mistake in it is no empty store."""
    from aream.errors import ConfigError
    from orchestrator.workspace import locate, runs_folder
    from workers.artifacts.opening import open_store, was_used

    if options.sweep and options.store:
        raise ConfigError(f"--store: given {options.store!r} beside --sweep, whose store is meant: need one of them")
    if options.sweep:
        refuse_idle(options, "of the server of --store, and a sweep names its own", "endpoint")
        given, store = "--sweep", locate(options.sweep, options.runs).store()
    elif options.store:
        views_beside = Path(options.runs).absolute() / "artifacts"
        given, store = "--store", open_store(options.store, views_beside, options.endpoint)
    else:
        refuse_idle(options, "of a server that --store is on, and this store is a folder", "endpoint")
        folder = runs_folder(options.runs) / "artifacts"
        given, store = "--runs", open_store(None, folder, options.endpoint)
    if not was_used(store.storage):
        raise ConfigError(f"{given}: there is no artifact store in {store.storage.uri}: nothing was ever stored there")
    return store


def _full_key(store: ArtifactStore, beginning: str) -> str:
    """Raises ``ConfigError`` where no artifact, or several, begin so."""
    from aream.errors import ConfigError

    found = [key for key in store.keys() if key.startswith(beginning) or key.partition("-")[2].startswith(beginning)]
    exact = [key for key in found if key == beginning]
    if len(exact or found) != 1:
        count = many(len(found), "artifact")
        raise ConfigError(f"{beginning!r} names {count} of {store.storage.uri}; give one key in full")
    return (exact or found)[0]


def _ls(store: ArtifactStore, options: argparse.Namespace) -> int:
    from aream.errors import ConfigError
    from workers.artifacts.lineage import readable_records

    stages = set()
    for record in readable_records(store):
        if output_is_lost():
            return 0
        stages.add(record.stage)
        if options.stage in (None, record.stage):
            files = many(record.files, "file")
            print(f"{record.key}  {files}  {record.size} bytes  {record.seconds:g} s  {record.created}")
    if options.stage not in (None, *stages):
        there = ", ".join(sorted(stages)) or "none"
        raise ConfigError(f"ls: given {options.stage!r}: no artifact is of such a stage; there are: {there}")
    return 0


def _show(store: ArtifactStore, options: argparse.Namespace) -> int:
    from workers.artifacts.lineage import ancestors, descendants

    record = store.record(_full_key(store, options.key))
    up, down = list(ancestors(store, record.key)), list(descendants(store, record.key))
    if options.json:
        files = [asdict(entry) for entry in store.files(record)]
        lineage = {"ancestors": [key for _, _, key, _ in up], "descendants": [key for _, key in down]}
        print(json.dumps({"record": asdict(record), "files": files, **lineage}, indent=1))
        return 0
    print(f"{record.key}\n  made {record.created} on {record.host} in {record.seconds:g} s by code {record.code}")
    print(f"  config {json.dumps(record.config)}")
    for name, value in record.metrics.items():
        print(f"  {name} {value:.6g}")
    print(f"computed from{'' if up else ': nothing else'}")
    for depth, name, key, stored in up:
        print(f"{'  ' * depth}{name}: {key}{'' if stored else '  (not stored)'}")
    print(f"from it were computed{'' if down else ': nothing yet'}")
    for depth, key in down:
        print(f"{'  ' * depth}{key}")
    print(f"{many(record.files, 'file')}, {record.size} bytes")
    for number, entry in enumerate(store.files(record)):
        if number == FILES_SHOWN:
            print(f"  and {record.files - FILES_SHOWN} more")
            break
        print(f"  {entry.path}  {entry.size}  {entry.sha256}")
    return 0


def _verify(store: ArtifactStore, options: argparse.Namespace) -> int:
    from aream.errors import ArtifactCorrupt

    keys = [_full_key(store, key) for key in options.keys] or sorted(store.keys())
    if options.discard:
        store.storage.check()
    damaged = 0
    for key in keys:
        try:
            store.verify(key)
        except ArtifactCorrupt as error:
            damaged += 1
            print(f"damaged: {error}")
            if options.discard:
                store.discard(key)
    forgotten = " and forgotten" if damaged and options.discard else ""
    print(f"{many(len(keys), 'artifact')} read, {damaged} damaged{forgotten}")
    return 1 if damaged else 0


def _export(store: ArtifactStore, options: argparse.Namespace) -> int:
    content = _summary(options)
    key = _best(content) if options.key == BEST else _full_key(store, options.key)
    count = _exported(store, key, options.what, options.folder, content)
    print(f"{many(count, EXPORTS[options.what])} of {key} in {options.folder}")
    return 0


def _exported(store: ArtifactStore, key: str, what: str, folder: Path, content: Mapping[str, Any] | None) -> int:
    """The number of files; labels need no torch, which takes seconds to import."""
    if what == "labels":
        from workers.files.voc_export import export_labels

        return export_labels(store, key, folder)
    from workers.files import model_export

    if what == "cams":
        return model_export.export_cams(store, key, folder)
    if what == "weights":
        return model_export.export_host(store, key, _classes(content), folder)
    return model_export.export_segmenter(store, _evaluated(content, key), _classes(content), folder)


def _summary(options: argparse.Namespace) -> dict[str, Any] | None:
    """What a sweep ended with; None where no sweep is named."""
    from aream.errors import ConfigError
    from orchestrator.report import read_summary
    from orchestrator.workspace import locate

    if options.sweep:
        return read_summary(locate(options.sweep, options.runs).summary_file)
    if options.key == BEST or options.what in ("weights", "segmenter"):
        given = "best is" if options.key == BEST else f"--what {options.what}: the names of the classes are"
        raise ConfigError(f"{given} part of a sweep's results; give --sweep NAME|SWEEP.yaml")
    return None


def _best(content: Mapping[str, Any] | None) -> str:
    from aream.errors import ConfigError

    if not content or not content["ranking"]:
        raise ConfigError("best: the sweep has ranked nothing yet")
    return str(content["ranking"][0]["label_artifact"])


def _classes(content: Mapping[str, Any] | None) -> list[str]:
    assert content is not None  # as _summary sees to
    return list(content["data"]["classes"])


def _evaluated(content: Mapping[str, Any] | None, labels: str) -> str:
    """The finished evaluation of a segmenter that was trained on some labels; the best, where there are several."""
    from aream.errors import ConfigError

    assert content is not None
    jobs = [job for job in content["segmentation"] if job["label_artifact"] == labels and job["metrics"]]
    if not jobs:
        there = dict.fromkeys(job["label_artifact"] for job in content["segmentation"] if job["metrics"])
        raise ConfigError(f"--what segmenter: none was trained on {labels}; on {', '.join(there) or 'no labels'}")
    return str(max(jobs, key=lambda job: job["metrics"].get("seg/miou", 0.0))["key"])


def _sweeps(store: ArtifactStore, options: argparse.Namespace) -> int:
    from workers.artifacts.holds import all_holds

    for hold in all_holds(store.storage):
        print(f"{hold.sweep_id}  {hold.name}  {many(len(hold.keys), 'artifact')}{'  running' if hold.live else ''}")
    return 0


def _gc(store: ArtifactStore, options: argparse.Namespace) -> int:
    from aream.errors import ConfigError
    from workers.artifacts.collection import collect
    from workers.artifacts.holds import all_holds, release

    if not options.grace >= 0:
        raise ConfigError(f"--grace: need hours, 0 or more, got {options.grace:g}")
    if not options.dry_run:
        store.remove_orphans()  # of killed processes; on a full disk it may be the room that the rest takes
        store.storage.check()
    if options.forget:
        known = {hold.sweep_id: hold for hold in all_holds(store.storage)}
        if options.forget not in known or known[options.forget].live:
            why = (
                "is running"
                if options.forget in known
                else f"is no sweep here; there are: {', '.join(known) or 'none'}"
            )
            raise ConfigError(f"--forget: {options.forget!r} {why}")
        if not options.dry_run:
            release(store.storage, options.forget)
    count = size = 0
    for garbage in collect(store, options.grace * 3600.0, dry_run=options.dry_run):
        print(f"{garbage.name}  {garbage.size} bytes  {garbage.why}")
        count, size = count + 1, size + garbage.size
    verb = "would be" if options.dry_run else "was" if count == 1 else "were"
    print(f"{many(count, 'object')} of {size} bytes {verb} removed")
    return 0


COMMANDS = {"ls": _ls, "show": _show, "verify": _verify, "export": _export, "sweeps": _sweeps, "gc": _gc}

if __name__ == "__main__":
    run(main)
