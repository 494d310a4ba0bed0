"""The file of named targets: whom it trusts, what it holds, and what ranks before what."""

import fcntl
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from clusterkit.cli.context import Context, Contexts, Setting, changing, dump, effective, find, path_of, read
from clusterkit.cli.failure import Exit, Failure
from clusterkit.cli.settings import Settings

STAGING = Context("10.0.0.7", 7030, "alpha", "/secret/cookie", "/tls/cert", "/tls/key", "/tls/ca")


@pytest.fixture(name="environ")
def _environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def kept(environ: Mapping[str, str], current: str | None = None, **contexts: Context) -> Path:
    with changing(environ) as draft:
        draft.contexts = Contexts(contexts, current)
    return path_of(environ)


def settings(**given: Any) -> Settings:
    """As the options would have set them; ``env_`` before a name: as its variable would."""
    made = Settings()
    for name, value in given.items():
        field = name.removeprefix("env_")
        setattr(made, field, value)
        made.origins[field] = f"CLUSTERKIT_{field.upper()}" if name != field else f"--{field}"
    return made


# -- where it is, and how it is kept


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"XDG_CONFIG_HOME": "/x", "HOME": "/h"}, "/x/clusterkit/contexts.toml"),
        ({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}, "/h/.config/clusterkit/contexts.toml"),
        ({"XDG_CONFIG_HOME": "", "HOME": "/h"}, "/h/.config/clusterkit/contexts.toml"),
        ({"HOME": "/h"}, "/h/.config/clusterkit/contexts.toml"),
    ],
)
def test_it_stands_where_the_standard_says(environ: dict[str, str], path: str) -> None:
    assert str(path_of(environ)) == path


def test_folder_and_file_are_their_owners_alone_whatever_the_umask(environ: dict[str, str]) -> None:
    before = os.umask(0)
    try:
        path = kept(environ, a=Context())
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666, 0o660])
def test_a_file_that_others_may_write_is_refused(environ: dict[str, str], mode: int) -> None:
    path = kept(environ, a=Context())
    path.chmod(mode)
    for trying in (lambda: read(path), lambda: find(settings(), environ), lambda: changing(environ).__enter__()):
        with pytest.raises(Failure, match=f"others may write .*{mode:04o}") as caught:
            trying()
        assert caught.value.exit_code is Exit.USAGE
        assert caught.value.hint.startswith(f"chmod go-w {path}")


def test_a_folder_that_others_may_write_is_refused_too(environ: dict[str, str]) -> None:
    path = kept(environ, a=Context())
    path.parent.chmod(0o777)
    with pytest.raises(Failure, match="others may write .*clusterkit .*0777"):
        read(path)


def test_others_may_read_it_for_no_secret_is_in_it(environ: dict[str, str]) -> None:
    path = kept(environ, a=STAGING)
    path.chmod(0o644)
    assert read(path).get("a") == STAGING


def test_a_file_that_is_not_there_says_nothing_and_is_not_made(environ: dict[str, str]) -> None:
    assert read(path_of(environ)) == Contexts()
    assert not path_of(environ).parent.exists()


@contextmanager
def a_stranger(folder: Path) -> Iterator[None]:
    """Be somebody who may not look into the folder; an administrator becomes another user for it."""
    if os.geteuid() == 0:
        folder.chmod(0o700)
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        folder.chmod(0)
        try:
            yield
        finally:
            folder.chmod(0o700)


def test_a_home_that_is_closed_to_us_holds_nothing_of_ours(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    kept(environ, a=STAGING)
    with a_stranger(tmp_path / "home"):
        assert find(settings(), environ) == Context("127.0.0.1", 7022)
        with pytest.raises(Failure, match="cannot write"):
            changing(environ).__enter__()
    (tmp_path / "file").touch()
    assert find(settings(), {"HOME": str(tmp_path / "file")}) == Context("127.0.0.1", 7022)


def test_a_file_that_cannot_be_read_is_said(environ: dict[str, str]) -> None:
    path = path_of(environ)
    path.mkdir(0o700, parents=True)
    with pytest.raises(Failure, match="cannot be read: Is a directory"):
        read(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only an administrator can give a file away")
def test_a_file_of_another_user_is_refused(environ: dict[str, str]) -> None:
    path = kept(environ, a=STAGING)
    os.chown(path, 65534, 65534)
    with pytest.raises(Failure, match="is another user's"):
        read(path)


def test_a_change_that_fails_leaves_the_file_as_it_was(environ: dict[str, str]) -> None:
    path = kept(environ, a=STAGING)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError), changing(environ) as draft:
        draft.contexts = Contexts()
        raise ZeroDivisionError
    with pytest.raises(Failure, match="is no UTF-8"), changing(environ) as draft:
        draft.contexts = draft.contexts.put("b", Context(cookie_file="/\udcff"))
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_link_to_the_file_stays_a_link(environ: dict[str, str], tmp_path: Path) -> None:
    real = tmp_path / "dotfiles"
    real.mkdir(0o700)
    (real / "mine.toml").touch(0o600)
    path = path_of(environ)
    path.parent.mkdir(0o700)
    path.symlink_to(real / "mine.toml")
    kept(environ, a=STAGING)
    assert path.is_symlink()
    assert read(real / "mine.toml").get("a") == STAGING


def test_two_who_write_at_once_do_not_wait_for_each_other(environ: dict[str, str]) -> None:
    path = kept(environ, a=STAGING)
    holder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with pytest.raises(Failure, match="another process is writing") as caught:
            changing(environ).__enter__()
    finally:
        os.close(holder)
    assert caught.value.exit_code is Exit.REFUSED
    assert read(path).get("a") == STAGING


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failure, match="cannot write") as caught:
        changing({"XDG_CONFIG_HOME": str(tmp_path / "file")}).__enter__()
    assert caught.value.exit_code is Exit.REFUSED


def test_what_a_killed_one_left_is_no_hindrance(environ: dict[str, str]) -> None:
    path = path_of(environ)
    path.parent.mkdir(0o700)
    path.with_name(f".{path.name}.{os.getpid()}").touch()
    assert list(kept(environ, a=STAGING).parent.iterdir()) == [path]


# -- what it may say


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("current", "is no TOML"),
        ("\xff", "is no TOML"),
        ("a" + " = [" * 5000, "is no TOML"),
        ("cookies = 1", "has 'cookies', which is neither"),
        ("contexts = 1", "has contexts that are no tables"),
        ("[contexts]\na = 1", "has a context 'a' that is no table"),
        ('[contexts.""]', "has a context ''"),
        ('current = "b"\n[contexts.a]', "says that 'b' is current, and has no such context"),
        ("current = 1", "says that 1 is current"),
        ('[contexts.a]\ncookie = "0123456789abcdef"', "has a cookie in 'a': write it to a file of mode 0600"),
        ("[contexts.a]\nprot = 1", "has 'prot' in 'a': there are host, port"),
        ("[contexts.a]\nport = 0", "has port 0 in 'a'"),
        ("[contexts.a]\nport = 65536", "has port 65536"),
        ("[contexts.a]\nport = true", "has port True"),
        ('[contexts.a]\nport = "7022"', "has port '7022'"),
        ("[contexts.a]\nhost = 1", "has host 1 in 'a', which is no text"),
        ('[contexts.a]\nhost = ""', "has host '' in 'a'"),
        ("#" * (1 << 20) + "#", "is larger than"),
    ],
)
def test_what_is_wrong_in_it_is_said(environ: dict[str, str], text: str, said: str) -> None:
    path = path_of(environ)
    path.parent.mkdir(0o700)
    path.touch(0o600)
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(Failure) as caught:
        read(path)
    assert said in caught.value.message
    assert str(path) in caught.value.message
    assert caught.value.exit_code is Exit.USAGE
    assert "0123456789abcdef" not in caught.value.message


def test_paths_that_a_hand_wrote_are_made_whole(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    path = path_of(environ)
    path.parent.mkdir(0o700)
    path.touch(0o600)
    path.write_text('[contexts.a]\ncookie_file = "~/c"\ntls_ca = "ca.pem"\ntls_key = "/k"\n')
    assert read(path).get("a") == Context(cookie_file="/home/ada/c", tls_ca=f"{path.parent}/ca.pem", tls_key="/k")


def test_one_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(Failure, match="there is no context 'c'") as caught:
        Contexts({"b": STAGING, "a": STAGING}).get("c")
    assert caught.value.hint == "there are: a, b"
    with pytest.raises(Failure):
        Contexts().use("c")


def test_without_the_current_one_there_is_none() -> None:
    both = Contexts({"a": STAGING, "b": STAGING}, "a")
    assert both.without("a").current is None
    assert both.without("b").current == "a"
    assert "a" not in both.without("a").by_name


def test_contexts_are_written_in_order() -> None:
    text = dump(Contexts({"b": Context(), "a": Context()}))
    assert text.index('contexts."a"') < text.index('contexts."b"')


# -- what holds


def test_without_anything_it_is_the_default(environ: dict[str, str]) -> None:
    assert find(settings(), environ) == Context("127.0.0.1", 7022)
    assert {each.origin for each in effective(settings(), environ).values()} == {"default"}


def test_the_current_one_counts_when_nothing_else_is_said(environ: dict[str, str]) -> None:
    kept(environ, "staging", staging=STAGING, other=Context("other"))
    assert find(settings(), environ) == STAGING
    found = effective(settings(), environ)
    assert found.pop("context") == Setting("staging", "context use")
    assert {each.origin for each in found.values()} == {"context staging"}


def test_the_variable_comes_before_the_current_one_and_the_option_before_the_variable(environ: dict[str, str]) -> None:
    kept(environ, "a", a=Context("of-a"), b=Context("of-b"), c=Context("of-c"))
    assert find(settings(env_context="b"), environ).host == "of-b"
    assert find(settings(context="c"), environ).host == "of-c"
    with pytest.raises(Failure, match="no context 'd'"):
        find(settings(context="d"), environ)


@pytest.mark.parametrize("name", ["host", "port", "instance", "tls_cert", "tls_key", "tls_ca"])
def test_option_environment_context_default_in_this_order(environ: dict[str, str], name: str) -> None:
    kept(environ, "staging", staging=STAGING)
    value: Any = 1 if name == "port" else "given"

    def origin(given: Settings) -> Setting:
        return effective(given, environ)[name]

    assert origin(settings()) == Setting(getattr(STAGING, name), "context staging")
    assert origin(settings(**{f"env_{name}": value})) == Setting(value, f"CLUSTERKIT_{name.upper()}")
    assert origin(settings(**{name: value})) == Setting(value, f"--{name}")
    kept(environ)
    assert origin(settings()).origin == "default"


def test_a_context_that_was_typed_comes_before_the_environment_and_after_other_options(environ: dict[str, str]) -> None:
    kept(environ, staging=STAGING)
    given = settings(context="staging", env_host="of-env", port=1)
    assert find(given, environ | {"CLUSTERKIT_COOKIE": "0123456789abcdef"}) == Context(
        "10.0.0.7", 1, None, "/secret/cookie", "/tls/cert", "/tls/key", "/tls/ca"
    )
    assert effective(settings(env_context="staging", env_host="of-env"), environ)["host"].value == "of-env"


def test_a_typed_context_leaves_open_what_it_does_not_say(environ: dict[str, str]) -> None:
    kept(environ, bare=Context(port=7040))
    assert find(settings(context="bare", env_host="of-env", env_port=1), environ) == Context("of-env", 7040)


@pytest.mark.parametrize("elsewhere", [{"host": "h"}, {"port": 1}, {"env_host": "h"}, {"env_port": 1}])
def test_the_name_in_a_context_holds_for_its_address_alone(environ: dict[str, str], elsewhere: dict[str, Any]) -> None:
    kept(environ, "staging", staging=STAGING)
    assert find(settings(**elsewhere), environ).instance is None
    assert find(settings(**elsewhere, instance="mine"), environ).instance == "mine"


def test_cookies_rank_as_the_rest(environ: dict[str, str], tmp_path: Path) -> None:
    kept(environ, "staging", staging=STAGING)
    in_files = environ | {"CLUSTERKIT_COOKIE_FILE": f"/one{os.pathsep}/two"}
    in_both = in_files | {"CLUSTERKIT_COOKIE": "0123456789abcdef"}
    assert find(settings(), environ).cookie_files == ("/secret/cookie",)
    assert effective(settings(), in_files)["cookie_file"] == Setting("/one", "CLUSTERKIT_COOKIE_FILE")
    assert effective(settings(), in_both)["cookie_file"] == Setting(None, "CLUSTERKIT_COOKIE")
    assert find(settings(), in_both).cookie_files == ()
    typed = effective(settings(cookie_file=("/mine", "/other")), in_both)["cookie_file"]
    assert typed == Setting("/mine", "--cookie_file")
    kept(environ)
    assert find(settings(), environ).cookie_files == ()
