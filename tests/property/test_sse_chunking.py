"""How the network cuts the stream into pieces changes nothing."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.sources.dcache.client.sse import Decoder

LINES = st.one_of(
    st.binary(max_size=12),
    st.builds(
        lambda field, space, value: field + b":" + space + value,
        st.sampled_from([b"data", b"event", b"id", b"", b"retry", b"x"]),
        st.sampled_from([b"", b" "]),
        st.binary(max_size=40).filter(lambda value: b"\n" not in value),
    ),
    st.just(b""),
)
STREAMS = st.builds(
    lambda lines, end: end.join([*lines, b""]),
    st.lists(LINES, max_size=30),
    st.sampled_from([b"\n", b"\r\n"]),
)


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 600), max_size=40), longest=st.sampled_from([8, 1 << 20]))
def test_any_cutting_gives_the_same_frames(stream: bytes, cuts: list[int], longest: int) -> None:
    whole, pieces = Decoder(longest=longest), Decoder(longest=longest)
    at = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    got = [frame for begin, end in itertools.pairwise(at) for frame in pieces.feed(stream[begin:end])]
    assert got == whole.feed(stream)


@given(names=st.lists(st.text(max_size=50).filter(lambda name: "\n" not in name and "\r" not in name)))
def test_whatever_is_in_a_name_each_event_is_one_frame(names: list[str]) -> None:
    raw = [name.encode("utf-8", "surrogatepass") for name in names]
    stream = b"".join(b"event: inotify\nid: %d\ndata: x%s\n\n" % pair for pair in enumerate(raw))
    frames = Decoder().feed(stream)
    assert [(frame.id, frame.data) for frame in frames] == [
        (str(n), b"x" + name) for n, name in enumerate(raw)
    ]
