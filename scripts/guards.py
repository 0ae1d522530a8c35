#!/usr/bin/env python3
"""Takes the guards of the engine, the kinds and the whole program (tests/guards.toml) out, one at a time, and names the tests that notice.

Works in a copy of the tree under target/guards (sharing nothing but crates.io's cache), so the checkout is never touched.
Usage: scripts/guards.py [PART-OF-A-NAME ...]    Exit status 1 when a guard can be taken out unseen.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
COPY = ROOT / "target" / "guards"


def copy_tree() -> None:
    names = subprocess.run(["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\n")
    for name in filter(None, names):
        source, copy = ROOT / name, COPY / name
        if source.is_file() and not (copy.exists() and copy.read_bytes() == source.read_bytes()):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, copy)
    # A file that is gone since the last time would still be built.
    for folder in (child for child in COPY.iterdir() if child.is_dir() and child.name != "target"):
        for stale in (file for file in folder.rglob("*") if file.is_file() and not (ROOT / file.relative_to(COPY)).exists()):
            stale.unlink()


def failing_tests(package: str, only: str | None) -> tuple[bool, list[str]]:
    which = ["--test", "end_to_end", only] if only else []
    run = subprocess.run(
        ["cargo", "nextest", "run", "-p", package, *which, "--no-fail-fast", "--target-dir", str(COPY / "target")],
        cwd=COPY, capture_output=True, text=True, env={"LEASEHOLD_SEQUENCES": "300", **os.environ})
    text = run.stdout + run.stderr
    tests = sorted(set(re.findall(r"(?:FAIL|TIMEOUT|ABORT|SIG\w+) \[[^]]*\] (?:\([^)]*\) )?\S+ (\S+)", text)))
    built = re.search(r"tests? run:", text) is not None
    if not built:
        print(text[-2000:])
    return built, tests


def main() -> int:
    wanted = sys.argv[1:]
    guards = []
    for package, tests in (("leasehold-engine", "engine/tests"), ("leasehold-jobs", "jobs/tests"), ("leasehold", "tests")):
        listed = tomllib.loads((ROOT / tests / "guards.toml").read_text())["guard"]
        guards += [(package, guard) for guard in listed]
    copy_tree()
    unseen = 0
    for package, guard in guards:
        if wanted and not any(part in guard["name"] for part in wanted):
            continue
        file = COPY / guard["file"]
        whole = file.read_text()
        if whole.count(guard["from"]) != 1:
            print(f"STALE   {guard['name']}: its text stands {whole.count(guard['from'])} times in {guard['file']}")
            unseen += 1
            continue
        file.write_text(whole.replace(guard["from"], guard["to"]))
        built, tests = failing_tests(package, guard.get("only"))
        file.write_text(whole)
        seen = built and bool(tests)
        unseen += not seen
        print(f"{'noticed' if seen else 'UNSEEN '} {guard['name']}: {', '.join(tests[:4])}{' …' if len(tests) > 4 else ''}", flush=True)
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
