"""Requirements: what is a name with versions, and everything else that somebody may try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.errors import AvlabError, ConfigError
from avlab.remote.requirements import MAX_HASHES, MAX_LENGTH, MAX_REQUIREMENTS, check_minor, normal, parse

SHA = "sha256:" + "0a" * 32


@pytest.mark.parametrize(
    ("given", "normal_form"),
    [
        ("scipy", "scipy"),
        (" SciPy >= 1.14 ", "scipy>=1.14"),
        ("scipy >=1.14, <2", "scipy<2,>=1.14"),
        ("Zope.Interface==6.*", "zope-interface==6.*"),
        ("uvicorn[Standard , watch]~=0.30", "uvicorn[standard,watch]~=0.30"),
        ("a===1.0+local.1", "a===1.0+local.1"),
        ("a!=1!2.0", "a!=1!2.0"),
        ('six; python_version<"3.13" and (os_name == \'posix\')', "six; python_version < \"3.13\" and ( os_name == 'posix' )"),
        (f"six==1.17.0 --hash={SHA}", f"six==1.17.0 --hash={SHA}"),
    ],
)
def test_what_means_the_same_reads_the_same(given, normal_form):
    assert str(parse(given)) == normal_form
    assert str(parse(normal_form)) == normal_form


ATTEMPTS = [
    "",
    " ",
    "-r /etc/passwd",
    "--index" + "-url=http://evil",
    "-e .",
    "six -r x",
    "six --config-settings=a=b",
    "six --global-option=x",
    f"--hash={SHA}",
    f"six --hash={SHA}",  # no exact version
    f"six==1.* --hash={SHA}",
    "six==1.0 --hash=md5:00",
    f"six==1.0 --hash={SHA}; --no-index",
    ".",
    "./six",
    "/tmp/six.whl",
    "six.whl/../x",
    "~/six",
    "file:///tmp/six.whl",
    "six @ file:///tmp/six.whl",
    "six@https://evil/six.whl",
    "git+https://evil/six",
    "https://evil/six.whl",
    "six\n--no-index",
    "six\r\nidna",
    "six\x00",
    "six # comment",
    "six \\",
    "six; import os",
    "six; os_name == '$(id)'",
    "six; os_name == 'a' ; --pre",
    "six; os_name == 'a' --pre",
    "six; __import__('os')",
    "${HOME}",
    "six==${HOME}",
    "six=1.0",
    "six>=",
    "six>=1,",
    "six[",
    "six[a;b]",
    "ѕix",  # a Cyrillic letter
    "six==１",  # a wide digit
    "x" * 101,
    "six==" + "1" * 65,
    "a" + " " * MAX_LENGTH + "==1" + " " * MAX_LENGTH + "0",
]


@pytest.mark.parametrize("text", ATTEMPTS)
def test_options_addresses_and_paths_are_refused(text):
    with pytest.raises(ConfigError):
        normal([text])


@pytest.mark.parametrize("value", [None, 3, b"six", ["six"]])
def test_other_types_are_refused(value):
    with pytest.raises(ConfigError):
        parse(value)


@given(st.text(max_size=300))
def test_whatever_is_accepted_holds_no_option_address_or_path(text):
    try:
        accepted = parse(text)
    except AvlabError:
        return
    words = accepted.text.split()
    assert not any(word.startswith("-") for word in words)
    assert not set(accepted.text.partition(";")[0]) & set("/\\:@#$ \n\r")
    assert str(parse(str(accepted))) == str(accepted)


def test_equal_lists_are_equal():
    assert normal(["Six", "idna>=3,<4"]) == normal(["idna <4, >=3", "six", "six"])


def test_limits():
    assert len(normal([f"a{n}" for n in range(MAX_REQUIREMENTS)])) == MAX_REQUIREMENTS
    with pytest.raises(ConfigError, match=str(MAX_REQUIREMENTS)):
        normal([f"a{n}" for n in range(MAX_REQUIREMENTS + 1)])
    with pytest.raises(ConfigError, match="too long"):
        parse("six; os_name == '" + "a" * MAX_LENGTH + "'")
    hashes = [f" --hash=sha256:{n:064x}" for n in range(MAX_HASHES + 1)]
    assert len(parse("six==1" + "".join(hashes[:-1])).hashes) == MAX_HASHES
    with pytest.raises(ConfigError, match="too long"):
        parse("six==1" + "".join(hashes))


def test_hashes_are_for_all_or_none():
    with pytest.raises(ConfigError, match="idna"):
        normal([f"six==1 --hash={SHA}", "idna==3"])


def test_one_text_is_no_list():
    with pytest.raises(ConfigError, match="list"):
        normal("six")


@pytest.mark.parametrize("python", ["3", "3.12.1", "2.7", "3.012", "3.12 ", "../3.12", "", None, 3.12])
def test_a_python_is_a_minor_version(python):
    with pytest.raises(ConfigError):
        check_minor(python)
