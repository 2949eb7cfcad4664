"""What a container sees."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dcnios_daemon.core.event import Action, Event
from dcnios_daemon.core.names import event_key
from dcnios_daemon.core.ports import Order
from dcnios_daemon.staging.contract import NAME_LIMIT, container_environment, local_name


def _event(kind: str = "minio", subject: str = "inbox/a/b.png", action: Action = Action.CREATED) -> Event:
    return Event(key=event_key("s", subject), source="s", kind=kind, subject=subject, action=action, time=1.5)


def _environment(*events: Event, payload: bytes = b"{}", stage_in: bool = True) -> dict[str, str]:
    order = Order(route="r", attempt=2, events=events, payload=payload)
    return container_environment(order, event_file="/dcnios/event.json", work_dir="/work/", stage_in=stage_in)


def test_all_of_it() -> None:
    event = _event()
    assert _environment(event) == {
        "EVENT": "{}",
        "DCNIOS_EVENT_FILE": "/dcnios/event.json",
        "INPUT_FILE_PATH": "/work/input/b.png",
        "TMP_OUTPUT_DIR": "/work/output",
        "STORAGE_OBJECT_KEY": "a/b.png",
        "EVENT_TIME": "1970-01-01T00:00:01.500Z",
        "DCNIOS_ROUTE": "r",
        "DCNIOS_KEY": event.key,
        "DCNIOS_ATTEMPT": "2",
    }


def test_there_is_an_input_path_only_with_stage_in() -> None:
    assert "INPUT_FILE_PATH" not in _environment(_event(), stage_in=False)


@pytest.mark.parametrize(
    ("event", "key"),
    [
        (_event(kind="dcache", subject="/data/raw/x"), "/data/raw/x"),
        (_event(kind="kafka", subject="frames", action=Action.MESSAGE), None),
        (_event(subject="inbox/nul\0"), None),
        (_event(kind="directory", subject="not \udcff utf-8"), None),
    ],
)
def test_the_object_key(event: Event, key: str | None) -> None:
    assert _environment(event).get("STORAGE_OBJECT_KEY") == key


def test_a_batch_has_no_one_object() -> None:
    assert "STORAGE_OBJECT_KEY" not in _environment(_event(), _event(subject="inbox/c"))


@pytest.mark.parametrize(
    ("payload", "seen"),
    [
        (b"", ""),
        (b"x" * 65536, "x" * 65536),
        (b"x" * 65537, None),
        (b"\xff", None),
        (b"a\0b", None),
        ("é\u2028\n".encode(), "é\u2028\n"),
    ],
)
def test_the_payload_is_a_variable_when_it_can_be_one(payload: bytes, seen: str | None) -> None:
    assert _environment(_event(), payload=payload).get("EVENT") == seen


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        ("inbox/2026/a b+c%20#'\".png", "a b+c%20#'\".png"),
        ("/data/🔬.dat", "🔬.dat"),
        ("folder/", "folder"),
        ("", "input"),
        ("///", "input"),
        ("a/..", "input"),
        (".", "input"),
        (".hidden", ".hidden"),
        ("a/b\0c", "b_c"),
        ("not \udcff utf-8", "not _ utf-8"),
    ],
)
def test_the_local_name_is_the_last_segment_where_a_disk_can_have_it(subject: str, name: str) -> None:
    assert local_name(subject) == name


def test_long_names_keep_their_extension_and_stay_different() -> None:
    one, two = (local_name(f"in/{'é' * 400}{end}.tar.gz") for end in ("1", "2"))
    assert one.startswith("é" * 80)
    assert one.endswith(".tar.gz")
    assert len(one.encode()) <= NAME_LIMIT
    assert one != two


_TEXT = st.text(st.characters(), max_size=400)


@given(
    _TEXT | st.lists(st.sampled_from(["/", ".", "..", "\0", "a", "é", "🔬", ".tar", "\udc80"])).map("".join)
)
@example("a." + "b" * 300)
@example("." * 300)
@example("🔬" * 60 + "." + "🔬" * 7)
def test_any_subject_gives_one_name_that_any_disk_takes(subject: str) -> None:
    name = local_name(subject)
    assert name == local_name(subject)
    assert name not in {"", ".", ".."}
    assert "/" not in name
    assert "\0" not in name
    assert len(name.encode()) <= NAME_LIMIT
