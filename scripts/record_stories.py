"""Record the stories of scripts/stories with real QEMUs, as tests/stories/VERSION/NAME.{jsonl.xz,meta.json,truth.json.xz}.

With no names, all of them. The formats are described in tests/stories/README.md.
"""

import argparse
import json
import lzma
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from stories.stage import STORIES, Stage  # noqa: E402
from support import found  # noqa: E402


def play(name, qemu, guest):
    """Play a story and return {recording's name: (wire, meta, truth)}."""
    with tempfile.TemporaryDirectory(prefix="qs") as folder:
        stage = Stage(qemu, guest, Path(folder))
        try:
            STORIES[name](stage)
        finally:
            stage.end()
        made = {
            "story": STORIES[name].__doc__,
            "made_by": f"python scripts/record_stories.py --qemu {qemu.version} {name.rstrip('_')}",
        }
        plain = name.rstrip("_")
        return {
            f"{plain}.{suffix}" if suffix else plain: (wire, {**made, **meta}, truth)
            for suffix, wire, meta, truth in stage.recordings()
        }


def write(folder, name, wire, meta, truth):
    """Write one recording into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(line) + "\n" for line in wire)
    (folder / f"{name}.jsonl.xz").write_bytes(lzma.compress(lines.encode(), preset=9))
    (folder / f"{name}.meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    (folder / f"{name}.truth.json.xz").write_bytes(lzma.compress(json.dumps(truth).encode(), preset=9))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--qemu", choices=found.VERSIONS, action="append", help="only this version (may be repeated)"
    )
    parser.add_argument("--into", type=Path, default=ROOT / "tests" / "stories", metavar="FOLDER")
    parser.add_argument("story", nargs="*", help=f"one of: {', '.join(name.rstrip('_') for name in STORIES)}")
    asked = parser.parse_args()
    known = {name.rstrip("_"): name for name in STORIES}
    if unknown := set(asked.story) - set(known):
        parser.error(f"no such story: {', '.join(sorted(unknown))}")
    failed = []
    try:
        guest = found.guest()
        qemus = [found.qemu(version) for version in asked.qemu or found.VERSIONS]
    except found.NotFound as error:
        sys.exit(f"record_stories.py: {error}")
    for name in asked.story or known:
        for qemu in qemus:
            began = time.monotonic()
            try:
                recordings = play(known[name], qemu, guest)
            except Exception as error:  # noqa: BLE001 - one story that goes wrong must not stop the others
                failed.append(f"{qemu.version}/{name}")
                print(
                    f"FAILED {qemu.version}/{name}: {type(error).__name__}: {error} {getattr(error, '__notes__', '')}",
                    flush=True,
                )
                continue
            for recording, (wire, meta, truth) in recordings.items():
                write(asked.into / qemu.version, recording, wire, meta, truth)
                print(
                    f"{qemu.version}/{recording}: {len(wire)} lines, exit {meta['exit']}, {time.monotonic() - began:.1f} s",
                    flush=True,
                )
    if failed:
        sys.exit(f"record_stories.py: failed: {' '.join(failed)}")


if __name__ == "__main__":
    main()
