"""What a run asks of Slurm, as flags."""

import shlex

import pytest
from pydantic import ValidationError

from dcnios_daemon.sinks.interlink.slurm import Slurm

KEY = "0123456789abcdef0123456789abcdef01234567"


def flags(gpu: int = 0, **given: object) -> list[str]:
    return shlex.split(Slurm.model_validate(given).annotation(key=KEY, gpu=gpu))


def test_nothing_said_is_one_node_that_is_never_requeued_and_can_be_found() -> None:
    assert flags() == ["--nodes=1", "--ntasks=1", "--no-requeue", f"--comment={KEY}"]


def test_every_key_becomes_its_flag() -> None:
    found = flags(
        partition="gpu",
        account="p123",
        qos="high",
        reservation="demo",
        time="00:55:00",
        nodes=2,
        tasks=8,
        gres="gpu:a100:2",
        comment="hall-b",
        flags=["--constraint=a100&nvlink", "--exclusive"],
    )
    assert found == [
        "--partition=gpu",
        "--account=p123",
        "--qos=high",
        "--reservation=demo",
        "--time=00:55:00",
        "--nodes=2",
        "--ntasks=8",
        "--gres=gpu:a100:2",
        "--no-requeue",
        f"--comment={KEY}:hall-b",
        "--constraint=a100&nvlink",
        "--exclusive",
    ]


def test_gpus_in_the_limits_are_asked_of_slurm_too() -> None:
    assert "--gres=gpu:4" in flags(gpu=4)
    assert "--gres=gpu:a100:4" in flags(gpu=4, gres="gpu:a100:4")


@pytest.mark.parametrize(
    ("time", "seconds"),
    [
        ("55", 3300),
        ("55:30", 3330),
        ("01:55:30", 6930),
        ("2-3", 183600),
        ("2-3:10", 184200),
        ("2-03:10:05", 184205),
    ],
)
def test_the_six_spellings_of_a_time(time: str, seconds: float) -> None:
    assert Slurm(time=time).run_time == seconds


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"time": "1h"}, "no time that sbatch knows"),
        ({"partition": "gpu\n#SBATCH --uid=0"}, "pattern"),
        ({"account": "a b"}, "pattern"),
        ({"flags": ["--constraint=a\nb"]}, "without blanks"),
        ({"flags": ["--constraint=a b"]}, "without blanks"),
        ({"flags": ["--exclude='a'"]}, "without blanks"),
        ({"flags": ["--exclude=a#b"]}, "without blanks"),
        ({"flags": ["constraint=a"]}, "--name"),
        ({"flags": ["--gres=gpu:1"]}, "key of its own: gres"),
        ({"flags": ["-p gpu"]}, "key of its own: partition"),
        ({"flags": ["--requeue"]}, "runs twice"),
        ({"flags": ["--array=1-3"]}, "one order is one job"),
        ({"comment": "a\nb"}, "pattern"),
        ({"nodes": 0}, "greater than or equal to 1"),
    ],
)
def test_what_slurm_or_we_could_not_stand_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Slurm.model_validate(given)
