"""Names, addresses, incarnations: what is accepted, and what an error says of the rest."""

import pytest

from clusterkit.core.identity import NodeId, check_name, draw_incarnation, format_host_port, parse_host_port
from clusterkit.errors import AddressError, ConfigError


@pytest.mark.parametrize("name", ["a", "A.b_c-9", "n" * 64])
def test_a_name_of_the_alphabet_is_returned(name: str) -> None:
    assert check_name(name) == name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "node name is empty"),
        ("n" * 65, "65 characters, 64 are the most"),
        ("a b", "' ' in it"),
        ("a\n", r"'\\n' in it"),
        ("knöt", "'ö' in it"),
        (5, "must be a str, not int: 5"),
    ],
)
def test_a_bad_name_is_refused_and_the_error_says_why(name: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_name(name)


def test_the_error_says_what_was_named() -> None:
    with pytest.raises(ConfigError, match="^ring id is empty"):
        check_name("", "ring id")


def test_an_incarnation_is_time_above_chance() -> None:
    assert draw_incarnation(1_577_836_800_000 + 9, (1 << 30) | 5) == (9 << 22) | 5


def test_an_incarnation_is_never_zero_whatever_the_clock_says() -> None:
    assert draw_incarnation(0, 0) > 0


def test_an_incarnation_exceeds_the_earlier_one_whatever_the_clock_says() -> None:
    after = (77 << 22) | ((1 << 22) - 1)
    assert draw_incarnation(0, 0, after) == 78 << 22


def test_an_incarnation_that_would_not_fit_is_refused() -> None:
    with pytest.raises((ConfigError, OverflowError)):
        draw_incarnation(0, 0, after=(1 << 64) - 1)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:7022", "127.0.0.1", 7022),
        ("node-1.example.org:0", "node-1.example.org", 0),
        ("[::1]:65535", "::1", 65535),
        ("[fe80::1%eth0]:1", "fe80::1%eth0", 1),
        ("[::ffff:10.0.0.1]:9", "::ffff:10.0.0.1", 9),
    ],
)
def test_an_address_is_read_and_written_back(text: str, host: str, port: int) -> None:
    assert parse_host_port(text) == (host, port)
    assert format_host_port(host, port) == text


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[::1:7022", "is never closed"),
        ("[::1]", "no ':port' after"),
        ("[::1]7022", "no ':port' after"),
        ("[localhost]:1", "'localhost' is no IPv6 address"),
        ("[1234]:1", "'1234' is no IPv6 address"),
        ("[]:1", "'' is no IPv6 address"),
        ("localhost", "no port; write host:port"),
        ("::1:7022", "goes in brackets"),
        (":7022", "no host before ':'"),
        ("a b:7022", "host 'a b' is neither"),
        ("h" * 254 + ":1", "is neither a name nor an IP address"),
        ("h:", "port '' is not a number"),
        ("h:x", "port 'x' is not a number"),
        ("h:-1", "port '-1' is not a number"),
        ("h:65536", "port '65536' is not a number from 0 to 65535"),
        ("h:٣", "is not a number"),
    ],
)
def test_a_bad_address_is_refused_and_the_error_says_why(text: str, says: str) -> None:
    with pytest.raises(AddressError, match=says) as caught:
        parse_host_port(text)
    assert repr(text) in str(caught.value)


def test_a_port_of_thousands_of_digits_is_an_address_error() -> None:
    with pytest.raises(AddressError):
        parse_host_port("h:" + "1" * 5_000)


@pytest.mark.parametrize("text", ["[:::]:1", "[1:2]:1", "[12345::]:1"])
def test_what_is_no_ipv6_address_is_refused(text: str) -> None:
    with pytest.raises(AddressError):
        parse_host_port(text)


def test_a_node_is_parsed_and_shown() -> None:
    node = NodeId.parse("foo@[::1]:7022")
    assert node == NodeId("foo", "::1", 7022, 0)
    assert (str(node), node.address) == ("foo@[::1]:7022", "[::1]:7022")


def test_another_run_is_another_node_at_the_same_place() -> None:
    node = NodeId.parse("foo@h:1")
    assert node.with_incarnation(5) == NodeId("foo", "h", 1, 5) != node


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "not NoneType: None"),
        ("foo", "no '@'"),
        ("@h:1", "node name is empty"),
        ("f o@h:1", "' ' in it"),
        ("foo@h", "'foo@h': no port"),
        ("foo@bar@h:1", "host 'bar@h' is neither"),
    ],
)
def test_a_bad_node_is_refused_and_the_error_shows_the_whole_text(text: str, says: str) -> None:
    with pytest.raises(AddressError, match=says) as caught:
        NodeId.parse(text)
    assert repr(text) in str(caught.value)
