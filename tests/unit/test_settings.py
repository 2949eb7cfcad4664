"""What every block of the configuration shares."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from dcnios_daemon.core.settings import Secret, Settings


class Login(Settings):
    user: str
    password: Secret
    token: Secret | None = None


def test_a_secret_is_given_as_it_is() -> None:
    assert Login(user="me", password=Secret("hush")).password.reveal() == "hush"


def test_a_secret_file_is_read_anew_each_time_without_its_newline(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("one\n")
    login = Login.model_validate({"user": "me", "password_file": str(file)})
    assert login.password.reveal() == "one"
    file.write_text("two\r\n")
    assert login.password.reveal() == "two"


def test_no_form_of_it_shows_the_secret() -> None:
    login = Login.model_validate({"user": "me", "password": "hush", "token": "hush"})
    shown = [repr(login), str(login), str(login.model_dump(mode="json")), login.model_dump_json()]
    assert not [text for text in shown if "hush" in text]


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ({"password": ""}, "a secret is a non-empty text"),
        ({"password": "a", "password_file": "/b"}, "give password or password_file, not both"),
        ({"password_file": 5}, "password_file is the path of a file"),
        ({"password_file": ""}, "password_file is the path of a file"),
        ({"password": ["hush"]}, "Input should be a valid string"),
        ({}, "Field required"),
        ({"password": "a", "usr": "b"}, "Extra inputs are not permitted"),
    ],
)
def test_mistakes_are_refused(given: dict[str, object], what: str) -> None:
    with pytest.raises(ValidationError, match=what):
        Login.model_validate({"user": "me"} | given)


def test_settings_never_change() -> None:
    login = Login.model_validate({"user": "me", "password": "hush"})
    with pytest.raises(ValidationError, match="frozen"):
        login.user = "you"  # type: ignore[misc]


def test_equality_is_by_origin() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret(path=Path("a"))
    assert Secret("a") != "a"


def test_the_schema_shows_the_file_beside_each_secret_and_requires_neither() -> None:
    schema = Login.model_json_schema()
    assert {"password", "password_file", "token", "token_file"} < schema["properties"].keys()
    assert schema["required"] == ["user"]
