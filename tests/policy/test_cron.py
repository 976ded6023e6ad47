import pytest

from kedge.policy.cron import fault, max_pause


@pytest.mark.parametrize(
    "schedule",
    [
        "0 * * * *",
        "*/15 * * * *",
        "0,30 6-18/2 1,15,31 * MON-FRI",
        "59 23 31 12 6",
        "0 0 1 1 0",
        "5/10 0 * jan,Dec sun",
        "15  3 * * *",
        "0 3 ? * ?",
    ],
)
def test_what_cron_allows_passes(schedule: str) -> None:
    assert fault(schedule) is None


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("hourly", "must be the five fields of cron"),
        ("0 * * * * *", "must be the five fields of cron"),
        ("60 * * * *", "minute 60 must be between 0 and 59"),
        ("* 24 * * *", "hour 24 must be between 0 and 23"),
        ("0 0 0 * *", "day of the month 0 must be between 1 and 31"),
        ("0 0 * 13 *", "month 13 must be between 1 and 12, or JAN to DEC"),
        ("0 0 * * 7", "day of the week 7 must be between 0 and 6, or SUN to SAT"),
        ("0 0 * * Monday", "day of the week Monday must be between 0 and 6, or SUN to SAT"),
        ("MON * * * *", "minute MON must be between 0 and 59"),
        ("0 0 * JAN-13 *", "month 13 must be"),
        ("*/0 * * * *", "minute '*/0': the step 0 must be a whole number above 0"),
        ("*/x * * * *", "the step x must be a whole number above 0"),
        ("30-10 * * * *", "minute '30-10' must run upwards"),
        ("1,,2 * * * *", "minute '' must be *, a number, a range"),
        ("-5 * * * *", "minute '-5' must be *, a number, a range"),
        ("*-5 * * * *", "minute '*-5' must be"),
    ],
)
def test_what_it_does_not_allow_is_named(schedule: str, said: str) -> None:
    assert said in (fault(schedule) or "")


@pytest.mark.parametrize(
    ("schedule", "hours"),
    [
        ("*/15 * * * *", 0.25),
        ("0 5 * * *", 24),
        ("0 0 1 * *", 31 * 24),
        ("0 0 29 FEB *", 1461 * 24),
        ("0 0 13 * FRI", 7 * 24),  # a date or a weekday
        ("0 0 */2 * FRI", 21 * 24),  # with a star: a date that is that weekday
        ("30 8-17 * * MON-FRI", 63),
    ],
)
def test_the_max_pause_of_a_schedule(schedule: str, hours: float) -> None:
    assert max_pause(schedule) == hours * 3600
