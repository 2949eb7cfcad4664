"""What follows from an outcome: another attempt, later, or the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcnios_daemon.core.policy import RetryPolicy
from dcnios_daemon.core.ports import Dead, Failure, Outcome, Retry, Succeed

MAY_HAVE_RUN = {Failure.UNKNOWN, Failure.SUSPICIOUS}
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 5),
    on=st.frozensets(st.sampled_from(Failure)),
    exit_codes=st.frozensets(st.integers(1, 3)),
)
OUTCOMES = st.builds(
    Outcome,
    order=st.just("o"),
    failure=st.one_of(st.none(), st.sampled_from(Failure)),
    exit_code=st.one_of(st.none(), st.integers(1, 4)),
)


@given(
    policy=POLICIES,
    outcome=OUTCOMES,
    attempt=st.integers(1, 6),
    events=st.integers(1, 9),
    dice=st.floats(0, 1, exclude_max=True),
)
def test_what_is_decided(
    policy: RetryPolicy, outcome: Outcome, attempt: int, events: int, dice: float
) -> None:
    decision = policy.decide(outcome, attempt=attempt, dice=dice, events=events)
    asked = outcome.failure in policy.on or outcome.exit_code in policy.exit_codes
    if outcome.failure is None:
        assert decision == Succeed()
    elif events > 1 and outcome.failure not in MAY_HAVE_RUN:
        assert isinstance(decision, Retry)
    else:
        assert isinstance(decision, Retry) == (asked and attempt < policy.attempts)
    if isinstance(decision, Retry):
        assert 0 < decision.after <= policy.max_backoff


@pytest.mark.parametrize("failure", set(Failure) - MAY_HAVE_RUN)
def test_a_failed_batch_is_parted_even_if_no_second_attempt_is_asked_for(failure: Failure) -> None:
    policy, outcome = RetryPolicy(attempts=1, on=frozenset()), Outcome(order="o", failure=failure)
    assert isinstance(policy.decide(outcome, attempt=1, dice=0, events=2), Retry)
    assert policy.decide(outcome, attempt=2, dice=0) == Dead()
