"""Cookies: found in the order of the rules, refused when others may read them, written for one owner."""

import asyncio
import base64
import os
from pathlib import Path

import pytest

from clusterkit.cli.cookie import Cookies, find_cookie, find_cookies, new_cookie, read_cookie_file, write_cookie_file
from clusterkit.cli.failure import Exit, Failure

GOOD = "0123456789abcdef"


def cookie_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "cookie"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "cookie"),
    [
        (b"0123456789abcdef", b"0123456789abcdef"),
        (b"0123456789abcdef\n", b"0123456789abcdef"),
        (b"0123456789abcdef\r\n", b"0123456789abcdef"),
        (b"0123456789abcdef\n\n", b"0123456789abcdef\n"),
        (b"0123456789abcdef\r", b"0123456789abcdef\r"),
        (b" 0123456789abcdef \n", b" 0123456789abcdef "),
        (b"\x00\xff" * 8 + b"\n", b"\x00\xff" * 8),
    ],
)
def test_one_final_line_end_is_removed_and_nothing_else(tmp_path: Path, content: bytes, cookie: bytes) -> None:
    assert read_cookie_file(cookie_file(tmp_path, content)) == cookie


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o610, 0o602])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = cookie_file(tmp_path, GOOD.encode(), mode)
    with pytest.raises(Failure, match=f"{mode:04o}") as caught:
        find_cookie([str(path)], {})
    assert caught.value.exit_code is Exit.COOKIE
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("mode", [0o600, 0o400])
def test_a_file_of_its_owner_is_taken(tmp_path: Path, mode: int) -> None:
    assert find_cookie([str(cookie_file(tmp_path, GOOD.encode(), mode))], {}) == GOOD.encode()


def test_the_option_comes_before_the_environment_and_the_value_before_the_file(tmp_path: Path) -> None:
    path = str(cookie_file(tmp_path, b"from the file, 16"))
    both = {"CLUSTERKIT_COOKIE": GOOD, "CLUSTERKIT_COOKIE_FILE": path}
    assert find_cookie([path], both) == b"from the file, 16"
    assert find_cookie([], both) == GOOD.encode()
    assert find_cookie([], {"CLUSTERKIT_COOKIE_FILE": path}) == b"from the file, 16"


def test_a_value_of_the_environment_is_used_as_it_stands() -> None:
    assert find_cookie([], {"CLUSTERKIT_COOKIE": GOOD + "\n"}) == GOOD.encode() + b"\n"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({}, "no cookie was given"),
        ({"CLUSTERKIT_COOKIE": ""}, "no cookie was given"),
        ({"CLUSTERKIT_COOKIE": "short"}, "CLUSTERKIT_COOKIE cannot be used.*5 bytes"),
        ({"CLUSTERKIT_COOKIE_FILE": "/nosuch/cookie"}, "cannot read the cookie file /nosuch/cookie"),
        ({"CLUSTERKIT_COOKIE_FILE": "/"}, "cannot read the cookie file /"),
    ],
)
def test_no_cookie_is_exit_5_with_a_hint(environ: dict[str, str], message: str) -> None:
    with pytest.raises(Failure, match=message) as caught:
        find_cookie([], environ)
    assert caught.value.exit_code is Exit.COOKIE
    assert "clusterkit keygen" in caught.value.hint


def test_a_new_cookie_is_32_random_bytes_as_text() -> None:
    cookies = [asyncio.run(new_cookie()) for _ in range(2)]
    assert [len(base64.b64decode(cookie)) for cookie in cookies] == [32, 32]
    assert cookies[0] != cookies[1]


def test_a_cookie_file_is_new_and_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "cookie"
    before = os.umask(0)
    try:
        write_cookie_file(path, GOOD, force=False)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_cookie_file(path) == GOOD.encode()


def test_a_cookie_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    path = cookie_file(tmp_path, b"old", 0o644)
    with pytest.raises(Failure, match="is there already") as caught:
        write_cookie_file(path, GOOD, force=False)
    assert (caught.value.exit_code, path.read_bytes()) == (Exit.USAGE, b"old")
    write_cookie_file(path, GOOD, force=True)
    assert read_cookie_file(path) == GOOD.encode()
    assert list(tmp_path.iterdir()) == [path]


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "link"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Failure, match="cannot write"):
        write_cookie_file(path, GOOD, force=False)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot write.*No such file"):
        write_cookie_file(tmp_path / "no" / "cookie", GOOD, force=False)


# -- several


def files(folder: Path, *cookies: bytes) -> list[str]:
    paths = [folder / f"cookie-{number}" for number in range(len(cookies))]
    for path, cookie in zip(paths, cookies, strict=True):
        path.touch(0o600)
        path.write_bytes(cookie)
    return [str(path) for path in paths]


OLD, NEW = b"the old cookie, 16", b"the new cookie, 16"


def test_of_several_files_the_first_is_dialled_with_and_a_client_reads_no_other(tmp_path: Path) -> None:
    both = files(tmp_path, OLD, NEW)
    assert find_cookies(both, {}).read() == [OLD, NEW]
    assert find_cookies([], {"CLUSTERKIT_COOKIE_FILE": os.pathsep.join(both)}).read() == [OLD, NEW]
    assert find_cookie([both[1], "/nosuch/cookie"], {}) == NEW


def test_files_are_read_each_time(tmp_path: Path) -> None:
    both = files(tmp_path, OLD, NEW)
    found = find_cookies(both, {})
    files(tmp_path, NEW, OLD)
    assert found.read() == [NEW, OLD]


def test_the_same_cookie_in_two_files_counts_once(tmp_path: Path) -> None:
    assert find_cookies(files(tmp_path, NEW, NEW + b"\n"), {}).read() == [NEW]


def test_a_fault_in_any_file_is_named(tmp_path: Path) -> None:
    both = files(tmp_path, OLD, b"short")
    with pytest.raises(Failure, match="cookie-1 cannot be used.*5 bytes"):
        find_cookies(both, {}).read()
    with pytest.raises(Failure, match="cannot read the cookie file /nosuch/cookie"):
        find_cookies([both[0], "/nosuch/cookie"], {}).read()


def test_more_than_four_files_are_a_mistake_of_usage() -> None:
    with pytest.raises(Failure, match="5 cookie files were given: 4 are the most") as caught:
        find_cookies([f"cookie-{number}" for number in range(5)], {})
    assert caught.value.exit_code is Exit.USAGE


def test_a_value_is_the_only_one() -> None:
    assert find_cookies([], {"CLUSTERKIT_COOKIE": GOOD}) == Cookies(value=GOOD.encode())
    assert find_cookies([], {"CLUSTERKIT_COOKIE": GOOD}).read() == [GOOD.encode()]
