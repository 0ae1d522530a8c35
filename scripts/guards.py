#!/usr/bin/env python3
"""Takes the guards of the engine, the targets, the kinds and the whole program (tests/guards.toml) out, one at a time, and names the tests that notice.

Works in a copy of the tree under target/guards (sharing nothing but crates.io's cache), so the checkout is never touched.
The tests are run once with all guards in: a test that fails then notices nothing.
Usage: scripts/guards.py [PART-OF-A-NAME ...]    Exit status 1 when a guard can be taken out unseen.
       scripts/guards.py --check                 Only looks, in an instant, whether each entry still fits its file.
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


# Which tests are run: of a package, or of one of its binaries those of a name.
Which = tuple[str, str, str | None]


def which_of(package: str, guard: dict) -> Which:
    return package, guard.get("test", "end_to_end"), guard.get("only")


def failing_tests(which_tests: Which) -> tuple[bool, list[str]]:
    package, binary, only = which_tests
    which = ["--test", binary, only] if only else []
    run = subprocess.run(
        ["cargo", "nextest", "run", "-p", package, *which, "--no-fail-fast", "--target-dir", str(COPY / "target")],
        cwd=COPY, capture_output=True, text=True, env={"LEASEHOLD_SEQUENCES": "300", **os.environ})
    text = run.stdout + run.stderr
    tests = sorted(set(re.findall(r"(?:FAIL|TIMEOUT|ABORT|SIG\w+) \[[^]]*\] (?:\([^)]*\) )?\S+ (\S+)", text)))
    built = re.search(r"tests? run:", text) is not None
    if not built:
        print(text[-2000:])
    return built, tests


def listed_guards() -> list[tuple[str, dict]]:
    """Each guard with the package whose tests watch over it."""
    places = (("leasehold-engine", "engine/tests"), ("leasehold-targets", "targets/tests"), ("leasehold-jobs", "jobs/tests"), ("leasehold", "tests"))
    read = lambda tests: tomllib.loads((ROOT / tests / "guards.toml").read_text())["guard"]
    return [(package, guard) for package, tests in places for guard in read(tests)]


def staleness(guard: dict) -> str | None:
    """Why the guard cannot be taken out, if it cannot."""
    file = ROOT / guard["file"]
    times = file.read_text().count(guard["from"]) if file.is_file() else 0
    if times != 1:
        return f"its text stands {times} times in {guard['file']}"
    return "it is replaced by itself" if guard["from"] == guard["to"] else None


def check(guards: list[tuple[str, dict]]) -> int:
    """Names the entries that no longer fit."""
    stale = [(guard["name"], why) for _, guard in guards if (why := staleness(guard))]
    names = [(package, guard["name"]) for package, guard in guards]
    stale += [(name, f"two guards of {package} have this name") for package, name in sorted(set(names)) if names.count((package, name)) > 1]
    for name, why in stale:
        print(f"STALE   {name}: {why}")
    return 1 if stale else 0


def noticed_by(package: str, guard: dict) -> tuple[bool, list[str]]:
    """Takes one guard out and puts it back; whether it was built, and which tests failed."""
    file = COPY / guard["file"]
    whole = file.read_text()
    file.write_text(whole.replace(guard["from"], guard["to"]))
    try:
        return failing_tests(which_of(package, guard))
    finally:
        file.write_text(whole)


def main() -> int:
    guards = listed_guards()
    if sys.argv[1:] == ["--check"]:
        return check(guards)
    wanted = sys.argv[1:]
    guards = [(package, guard) for package, guard in guards if not wanted or any(part in guard["name"] for part in wanted)]
    bad = check(guards)
    guards = [(package, guard) for package, guard in guards if not staleness(guard)]
    copy_tree()
    always: dict[Which, set[str]] = {}
    for package, guard in guards:
        key = which_of(package, guard)
        if key not in always:
            built, failing = failing_tests(key)
            if not built:
                print(f"BROKEN  {package}: it is not built with all guards in")
                return 1
            always[key] = set(failing)
            for test in failing:
                print(f"BROKEN  {test} fails with all guards in", flush=True)
        built, failing = noticed_by(package, guard)
        tests = [test for test in failing if test not in always[key]]
        seen = built and bool(tests)
        bad |= not seen
        print(f"{'noticed' if seen else 'UNSEEN '} {guard['name']}: {', '.join(tests[:4])}{' …' if len(tests) > 4 else ''}", flush=True)
    return 1 if bad or any(always.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
