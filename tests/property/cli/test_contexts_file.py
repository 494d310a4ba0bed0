"""Whatever stands in the contexts comes back from the file as it was, and the file is always TOML."""

import tempfile
import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from clusterkit.cli.context import Context, Contexts, changing, dump, path_of, read

ANY = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)  # Cs: lone surrogates, which are no UTF-8
NASTY = st.sampled_from(
    ['"', "\\", "\\u0041", "\n", "\r\n", "\x00", "\x7f", "]", "#", "'''", '"""', "a.b", "ä\u2028", "-"]
)
TEXT = st.one_of(NASTY, ANY, st.lists(st.one_of(NASTY, ANY), min_size=1, max_size=4).map("".join))
PATHS = TEXT.map(lambda text: f"/{text}")


def maybe(values: st.SearchStrategy[str]) -> st.SearchStrategy[str | None]:
    return st.one_of(st.none(), values)


CONTEXT = st.builds(
    Context,
    host=maybe(TEXT),
    port=st.one_of(st.none(), st.integers(1, 65535)),
    instance=maybe(TEXT),
    cookie_file=maybe(PATHS),
    tls_cert=maybe(PATHS),
    tls_key=maybe(PATHS),
    tls_ca=maybe(PATHS),
)


@st.composite
def contexts(draw: st.DrawFn) -> Contexts:
    by_name = draw(st.dictionaries(TEXT, CONTEXT, max_size=5))
    current = draw(st.one_of(st.none(), st.sampled_from(sorted(by_name)))) if by_name else None
    return Contexts(by_name, current)


@given(contexts())
def test_what_is_written_is_read_again(written: Contexts) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environ = {"XDG_CONFIG_HOME": folder}
        with changing(environ) as draft:
            draft.contexts = written
        path = path_of(environ)
        assert read(path) == written
        assert [each.name for each in Path(path.parent).iterdir()] == [path.name]


@given(contexts())
def test_the_file_is_toml_and_says_the_same_to_anybody(written: Contexts) -> None:
    found = tomllib.loads(dump(written))
    assert found.get("current") == written.current
    assert set(found.get("contexts", {})) == set(written.by_name)
    for name, context in written.by_name.items():
        said = found["contexts"][name]
        assert said == {key: value for key in said if (value := getattr(context, key)) is not None}
        assert len(said) == sum(getattr(context, key) is not None for key in Context.__slots__)
