"""What is learned from answers, step by step, and the line in front of it."""

from math import inf

import pytest

from pyrate_limiter.integrations.learning import News, Pace
from pyrate_limiter.integrations.learning.line import NOT_YET, Line, Place

FINE = News()


def pace(max_hold=600.0, jitter=0.0):
    return Pace(max_hold, lambda: jitter)


def let_through(server, count, at):
    for number in [server.send(at) for _ in range(count)]:
        server.answered(number, at, FINE)


def refuse(server, at, **news):
    server.answered(server.send(at), at, News(refused=True, **news))


def test_nothing_is_held_back_before_the_first_refusal():
    server = pace()
    for _ in range(10_000):
        server.send(0.0)
    assert server.due(0.0) <= 0.0


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_a_hold_ends_at_the_stated_moment_or_a_little_later(jitter):
    server = pace(jitter=jitter)
    refuse(server, 10.0, hold=20.0)
    assert server.due(10.0) == pytest.approx(30.0 + 0.4 * jitter)


def test_the_prolongation_of_a_long_hold_is_bounded():
    server = pace(max_hold=3600.0, jitter=1.0)
    refuse(server, 0.0, hold=3000.0)
    assert server.due(0.0) == 3001.0


def test_while_one_asks_nobody_else_goes():
    server = pace()
    refuse(server, 0.0, hold=5.0)
    asking = server.send(5.0)
    assert server.due(5.0) == inf
    server.answered(asking, 5.1, FINE)
    assert server.due(5.1) <= 5.1


def test_a_question_that_is_lost_lets_another_ask():
    server = pace()
    refuse(server, 0.0, hold=5.0)
    server.send(5.0)
    server.lost()
    assert server.due(5.0) <= 5.0


def test_the_first_few_go_one_two_four():
    server = pace()
    refuse(server, 0.0, hold=5.0)
    allowed = []
    under_way = [server.send(5.0)]
    for _ in range(4):
        allowed.append(len(under_way))
        for number in under_way:
            server.answered(number, 5.0, FINE)
        under_way = []
        while server.due(5.0) <= 5.0:
            under_way.append(server.send(5.0))
    assert allowed == [1, 2, 4, 8]


def test_a_burst_of_refusals_says_one_thing():
    one, many = pace(), pace()
    let_through(one, 20, 0.0)
    let_through(many, 20, 0.0)
    refuse(one, 1.0, hold=4.0)
    for number in [many.send(1.0) for _ in range(30)]:
        many.answered(number, 1.0, News(refused=True, hold=4.0))
    for server in (one, many):
        server.answered(server.send(5.0), 5.0, FINE)
    assert one._rate == many._rate > 0


def test_without_a_stated_moment_each_question_waits_longer():
    server = pace()
    gaps, now = [], 0.0
    for _ in range(12):
        refuse(server, now)
        gaps.append(server.due(now) - now)
        now += gaps[-1]
    assert gaps[0] == 0.5
    assert gaps == sorted(gaps)
    assert gaps[-1] > 1.0


def test_a_moment_that_proved_wrong_is_not_asked_for_ever_more():
    server = pace()
    now = 0.0
    for _ in range(20):
        refuse(server, now, hold=0.001)
        now = server.due(now)
    assert now > 10.0


def test_the_pace_is_what_was_let_through_between_two_refusals():
    server = pace()
    let_through(server, 40, 0.0)
    refuse(server, 0.0, hold=10.0)
    let_through(server, 1, 10.0)  # 41 in ten seconds
    gone = 0
    for tick in range(200):
        while server.due(10.0 + tick / 10) <= 10.0 + tick / 10:
            let_through(server, 1, 10.0 + tick / 10)
            gone += 1
    assert 80 <= gone <= 100


def sent_in(server, start, seconds, policy=None):
    """Send what may be sent in so many seconds, each answered at once, and return how many that were."""
    count = 0
    for tick in range(int(seconds * 20)):
        now = start + tick / 20
        while server.due(now) <= now:
            server.answered(server.send(now), now, News(policy=policy))
            count += 1
            assert count < 10_000
    return count


def test_a_policy_is_the_pace_once_the_limit_is_met():
    server = pace()
    for _ in range(5):
        server.answered(server.send(0.0), 0.0, News(policy=(60, 30.0)))
    server.answered(server.send(0.0), 0.0, News(remaining=0, reset=10.0, policy=(60, 30.0)))
    assert server.due(0.0) == 10.0
    assert 2 * 100 * 0.95 <= sent_in(server, 10.0, 100, (60, 30.0)) <= 2 * 100  # and does not grow beyond


def test_a_pace_below_one_in_the_longest_hold_is_no_clock_of_another_loop():
    server = pace(max_hold=600.0)
    server.answered(server.send(0.0), 0.0, News(remaining=0, reset=500.0, policy=(1, 3600.0)))
    assert sent_in(server, 500.0, 100, (1, 3600.0)) <= 3
    assert server.due(600.0) >= 1000.0


def test_another_policy_lets_the_pace_grow_again():
    counts = []
    for policy in ((10, 10.0), (1000, 10.0)):
        server = pace()
        server.answered(server.send(0.0), 0.0, News(remaining=0, reset=10.0, policy=(10, 10.0)))
        sent_in(server, 10.0, 10, (10, 10.0))
        counts.append(sent_in(server, 20.0, 60, policy))
    assert counts[0] <= 60
    assert counts[1] >= 1.2 * counts[0]


def test_a_policy_that_the_server_goes_beyond_is_not_believed():
    server = pace()
    let_through(server, 200, 0.0)
    for now in (0.0, 10.0):
        server.answered(server.send(now), now, News(remaining=0, reset=10.0, policy=(6, 30.0)))
    assert sent_in(server, 20.0, 10) >= 90


def test_who_is_refused_in_spite_of_the_policy_goes_slower():
    paces = []
    for refused in (False, True):
        server = pace()
        let_through(server, 80, 0.0)
        server.answered(server.send(0.0), 0.0, News(remaining=0, reset=4.0, policy=(80, 4.0)))
        sent_in(server, 4.0, 4)
        if refused:
            refuse(server, 8.0, hold=2.0)
        sent_in(server, 10.0, 1)
        paces.append(sent_in(server, 11.0, 5))
    assert paces[1] < 0.97 * paces[0]


def test_a_policy_holds_nothing_back_before_its_limit_is_met():
    server = pace()
    for _ in range(100):
        server.answered(server.send(0.0), 0.0, News(policy=(1, 3600.0)))
    assert server.due(0.0) <= 0.0


def test_a_stated_moment_of_a_server_that_answered_much_earlier_is_not_believed_again():
    server = pace(max_hold=5.0)
    let_through(server, 20, 0.0)
    refuse(server, 0.0, hold=31_536_000.0)
    assert server.due(0.0) == 5.0
    let_through(server, 1, 5.0)
    refuse(server, 6.0, hold=31_536_000.0)
    assert server.due(6.0) < 8.0


def test_what_was_learned_by_another_clock_is_forgotten():
    server = pace()
    refuse(server, 1_000_000.0, hold=100.0)
    assert server.due(5.0) <= 5.0


def test_what_is_left_is_not_exceeded_by_those_under_way():
    server = pace()
    first, *others = [server.send(0.0) for _ in range(10)]
    server.answered(first, 0.1, News(remaining=9, reset=30.0))
    assert server.due(0.1) == 30.1
    for left, number in enumerate(reversed(others[1:]), 1):
        server.answered(number, 0.2, News(remaining=left, reset=30.0))
    assert server.due(0.2) == 30.2  # the least that was said is 1, and one is under way


def test_what_is_said_later_to_who_was_sent_later_counts():
    server = pace()
    server.answered(server.send(0.0), 0.0, News(remaining=0, reset=30.0))
    assert server.due(0.0) == 30.0
    server.answered(server.send(30.0), 30.0, News(remaining=5, reset=30.0))
    assert server.due(30.0) <= 30.0


class Waiter(Place):
    __slots__ = ("woken",)

    def __init__(self, arrival, refusals=0):
        super().__init__(arrival, refusals, self.come)
        self.woken = 0

    def come(self):
        self.woken += 1


def line(*arrivals):
    """Return a line that is held until 5.0, and those who wait in it."""
    server = pace()
    refuse(server, 0.0, hold=5.0)
    waiting = Line(server)
    places = [Waiter(*each) for each in arrivals]
    for place in places:
        waiting.join(place)
    return waiting, places


def gone(places):
    return [place.arrival for place in places if place.number != NOT_YET]


def test_the_line_is_in_order_of_arrival_also_for_those_who_come_back():
    waiting, places = line((3,), (1,), (2,))
    for expected in ([1], [1, 2], [1, 2, 3]):
        waiting.advance(5.0)
        assert sorted(gone(places)) == expected
        waiting.pace.answered(max(place.number for place in places), 5.0, FINE)
        if expected == [1]:
            waiting.pace.send(5.0)  # so that only one more may go


def test_who_was_refused_often_does_not_ask_the_next_question():
    waiting, places = line((1, 2), (2, 1), (3, 1))
    waiting.advance(5.0)
    assert gone(places) == [2]


def test_only_the_first_has_the_alarm():
    waiting, (first, second) = line((1,), (2,))
    assert waiting.alarm(first, 0.0) == 5.0
    assert waiting.alarm(second, 0.0) == inf


def test_when_the_first_leaves_the_next_takes_the_alarm():
    waiting, (first, second) = line((1,), (2,))
    waiting.leave(first, 1.0)
    assert second.woken == 1
    assert waiting.alarm(second, 1.0) == 5.0


def test_a_newcomer_does_not_overtake():
    waiting, _ = line((1,))
    assert waiting.pass_by(9.0) == NOT_YET


def test_who_leaves_after_having_been_let_go_lets_another_go():
    waiting, (first, second) = line((1,), (2,))
    waiting.advance(5.0)
    assert (first.number != NOT_YET, second.number) == (True, NOT_YET)
    waiting.leave(first, 5.0)
    assert second.number != NOT_YET


def test_a_refusal_of_what_was_sent_before_the_last_one_does_not_prolong_the_hold():
    server = pace()
    first, second = server.send(0.0), server.send(0.0)
    server.answered(first, 1.0, News(refused=True, hold=4.0))
    server.answered(second, 1.5, News(refused=True, hold=4.0))
    assert server.due(1.5) == 5.0


def test_the_first_in_line_goes_when_nobody_was_refused():
    server = pace()
    server.answered(server.send(0.0), 0.0, News(remaining=0, reset=5.0))
    waiting, (first, second) = Line(server), (Waiter(1), Waiter(2))
    waiting.join(second)
    waiting.join(first)
    waiting.advance(5.0)
    assert gone([first, second]) == [1]
