"""Frames out of bytes, as dCache's frontend writes them."""

from dcnios_daemon.sources.dcache.client.sse import Decoder, Frame

INOTIFY = b'event: inotify\nid: 7\ndata: {"event":{"name":"f","mask":["IN_CLOSE_WRITE"]}}\n\n'


def test_a_frame_as_dcache_writes_it() -> None:
    assert Decoder().feed(INOTIFY) == [
        Frame("inotify", "7", b'{"event":{"name":"f","mask":["IN_CLOSE_WRITE"]}}')
    ]


def test_names_with_unicode_line_ends_stay_whole() -> None:
    name = "a\u2028b\u0085c\x0bd\x0c".encode()
    assert Decoder().feed(b"data: " + name + b"\n\n")[0].data == name


def test_crlf_ends_lines_too() -> None:
    assert Decoder().feed(INOTIFY.replace(b"\n", b"\r\n")) == Decoder().feed(INOTIFY)


def test_the_id_of_one_frame_is_not_that_of_the_next() -> None:
    system = b'event: SYSTEM\ndata: {"type":"EVENT_LOSS"}\n\n'
    assert [frame.id for frame in Decoder().feed(INOTIFY + system)] == ["7", None]


def test_comments_retry_and_unknown_fields_say_nothing() -> None:
    assert Decoder().feed(b": hello\n\nretry: 5\n\nwhat\n\nid: 3\n\n") == []


def test_several_data_lines_are_one() -> None:
    assert Decoder().feed(b"data: a\ndata\ndata:b\n\n") == [Frame("message", None, b"a\n\nb")]


def test_a_frame_without_its_end_is_not_given() -> None:
    decoder = Decoder()
    assert decoder.feed(INOTIFY[:-1]) == []
    assert len(decoder.feed(b"\n")) == 1


def test_an_endless_line_takes_no_memory_and_its_frame_says_that_it_was_cut() -> None:
    decoder = Decoder(longest=100)
    assert decoder.feed(b"id: 5\ndata: ") == []
    for _ in range(1000):
        assert decoder.feed(b"x" * 100) == []
    assert len(decoder._line) <= 100
    (frame,) = decoder.feed(b"\n\n")
    assert (frame.id, frame.cut) == ("5", True)
    assert len(frame.data) <= 100
    assert decoder.feed(INOTIFY) == Decoder().feed(INOTIFY)


def test_endless_data_lines_take_no_memory_either() -> None:
    decoder = Decoder(longest=100)
    for _ in range(1000):
        decoder.feed(b"data: 0123456789\n")
    (frame,) = decoder.feed(b"\n")
    assert frame.cut
    assert len(frame.data) <= 110
