import contextlib
import os
import random
import subprocess
from pathlib import Path

import pytest

from qdrant_polyvec import files
from qdrant_polyvec.files import ignoring

PATTERNS = [
    "*",
    "!*/",
    "!*.py",
    "*.md",
    "a",
    "/a",
    "a/",
    "b/",
    "!b/",
    "a/b",
    "/a/b/",
    "**/c",
    "c/**",
    "a/**/b",
    "!a",
    "!/b",
    "?",
    "[ab]",
    "[!a]*",
    "*.",
    "!a/b/c.md",
    "b.py",
    "\\!a",
    "#x",
    "a\\",
    "",
    "*/",
    "**",
    "!**/",
    "/*",
    "!/a/",
    "*/b",
    "[z-a]",
    "a**b",
    "a/*",
    "!a/*",
    "**/",
    "/**",
    "!x.md",
    "!",
    "/",
    "//a",
    "a//b",
    "[",
    "[]a]",
    "\\",
    "a\\b",
    "!!a",
    "**/a/**",
    "**a",
    "c.*",
]
NAMES = ("a", "b", "c", "x.md", "b.py", "c.md")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    return Path(os.path.realpath(tmp_path))


@pytest.fixture(params=["git", "no git"])
def tool(request, monkeypatch):
    if request.param == "no git":
        monkeypatch.setattr(ignoring, "_GIT", ("git-that-is-not-installed",))
    return request.param


def git(*arguments, where="."):
    options = ("-c", "user.name=me", "-c", "user.email=me", "-c", "protocol.file.allow=always")
    return subprocess.run(["git", *options, *arguments], cwd=where, check=True, capture_output=True).stdout


def write(path, text="text"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_bytes(text.encode() if isinstance(text, str) else text)


def names(*paths):
    return [path.as_posix() for path in files.find(paths)]


def grow(folder, rng, depth=0):
    for name in NAMES:
        share = rng.random()
        if share < 0.4 and depth < 3:
            (folder / name).mkdir()
            grow(folder / name, rng, depth + 1)
        elif share < 0.9:
            (folder / name).write_bytes(b"text")
    if depth == 0 or rng.random() < 0.25:
        lines = rng.choice(["\n", "\r\n"]).join(rng.choices(PATTERNS, k=rng.randint(1, 5)))
        (folder / ".gitignore").write_bytes(rng.choice([b"", b"\xef\xbb\xbf"]) + lines.encode())


@pytest.mark.parametrize("seed", range(60))
def test_random_repositories_are_listed_as_git_lists_them(folder, seed, monkeypatch):
    rng = random.Random(seed)
    grow(folder, rng)
    git("init", "-q")
    write(".git/info/exclude", "\n".join(rng.choices(PATTERNS, k=rng.randint(0, 2))))
    top = rng.choice([Path(here) for here, _, _ in os.walk(folder) if ".git" not in here])
    is_ignored = not subprocess.run(["git", "check-ignore", "-q", "."], cwd=top, check=False).returncode
    listed = git("ls-files", "-z", "--cached", "--others", "--exclude-standard", where=top).decode().split("\0")
    by_git = sorted(path for path in map(str, files.find([top])))
    if not is_ignored:
        assert by_git == sorted(str(top / name) for name in listed if name and not name.endswith(".gitignore"))
    monkeypatch.setattr(ignoring, "_GIT", ("git-that-is-not-installed",))
    assert sorted(map(str, files.find([top]))) == by_git


def test_patterns_that_take_folders_in_again(folder, tool):
    for name in ("a.py", "a.txt", "s/b.py", "s/b.txt", "keep/x/y.md", "t/d.py", "t/e.py"):
        write(name)
    write(".gitignore", b"\xef\xbb\xbf*\n!*/\n!*.py\n!/keep/x/*.md\nt/**\n!t/d.py\n")
    expected = ["a.py", "keep/x/y.md", "s/b.py", "t/d.py"]
    assert names(".") == expected
    git("init", "-q")
    assert names(".") == expected
    assert names("s") == ["s/b.py"]


def test_the_excluded_files_of_a_repository_and_of_its_worktrees(folder, tool):
    write("repo/a.md")
    write("repo/b.md")
    git("init", "-q", where="repo")
    write("repo/.git/info/exclude", "b.md\n")
    assert names("repo") == ["repo/a.md"]
    git("add", "a.md", where="repo")
    git("commit", "-qm", "a", where="repo")
    git("worktree", "add", "-q", "../tree", where="repo")
    write("tree/.gitignore", "c.md")
    write("tree/c.md")
    assert names("tree") == ["tree/a.md"]


def test_repositories_within_a_repository_have_their_own_rules(folder):
    write("other/s.md")
    write("other/t.md")
    git("init", "-q", where="other")
    git("add", ".", where="other")
    git("commit", "-qm", "s", where="other")
    write("repo/nested/a.md")
    write("repo/nested/a.log")
    write("repo/nested/.gitignore", "*.log")
    write("repo/ignored/b.md")
    write("repo/.gitignore", "t.md\nignored")
    for name in ("repo", "repo/nested", "repo/ignored"):
        git("init", "-q", where=name)
    git("submodule", "--quiet", "add", "../other", "sub", where="repo")
    expected = ["repo/nested/a.md", "repo/sub/s.md", "repo/sub/t.md"]
    assert names("repo") == expected
    assert names(".") == ["other/s.md", "other/t.md", *expected]  # no repository is above these


def test_a_tracked_file_is_listed_though_a_pattern_ignores_it(folder, monkeypatch):
    write("a.log")
    write("b.log")
    write(".gitignore", "*.log")
    git("init", "-q", "other")
    git("init", "-q")
    git("add", "-f", "a.log")
    monkeypatch.setenv("GIT_DIR", str(folder / "other" / ".git"))  # as a hook of git has it
    assert names(".") == ["a.log"]


def test_a_folder_that_is_named_is_searched_though_it_is_ignored(folder, tool):
    write("out/sub/a.md")
    write("out/b.log")
    write("out/.gitignore", "*.log")
    write(".gitignore", "out/")
    git("init", "-q")
    assert names("out") == names("out/sub") == ["out/sub/a.md"]
    assert names("out/b.log") == ["out/b.log"]


def test_where_git_refuses_the_files_count(folder, monkeypatch):
    write("a.md")
    write("b.md")
    write(".gitignore", "b.md")
    git("init", "-q")
    for variable, value in (("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1"), ("GIT_DIR", str(folder / "nowhere"))):
        with monkeypatch.context() as patch:
            patch.setenv(variable, value)
            with contextlib.suppress(subprocess.CalledProcessError):
                git("ls-files")
                pytest.fail("git lists it")
            assert names(".") == ["a.md"]
    git("init", "-q", "--bare", "bare.git")
    assert "bare.git/HEAD" in names("bare.git")


def test_a_gitignore_that_cannot_be_read_is_a_failure(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    write("docs/.gitignore", "*")
    write("docs/a.md")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    file, failure = files.find(["docs"])
    assert (file, failure.source.split("/")[-1]) == (Path("docs/a.md"), ".gitignore")
    assert failure.reason == "cannot be read: Permission denied"


def test_the_program_that_a_repository_names_is_not_run(folder):
    write("a.md")
    write("spy.sh", f"#!/bin/sh\ntouch {folder}/spied\n")
    Path("spy.sh").chmod(0o755)
    git("init", "-q")
    git("config", "core.fsmonitor", str(folder / "spy.sh"))
    assert names(".") == ["a.md", "spy.sh"]
    assert not Path("spied").exists()
