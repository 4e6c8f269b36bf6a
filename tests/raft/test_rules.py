"""The rules that the scripts leave out. Each test names the section of the paper (P), of the thesis (T), or the etcd
behaviour that it holds us to."""

from __future__ import annotations

import random
import re

import pytest

from quorate.errors import CorruptError
from quorate.raft import codec
from quorate.raft.core import CANDIDATE, FOLLOWER, LEADER, PRE_CANDIDATE, READ_ONLY_LEASE_BASED, Config, ProposalDropped
from quorate.raft.logger import DEBUG, Logger
from quorate.raft.node import StepError, bootstrap_entries
from quorate.raft.storage import MemoryStorage
from quorate.raft.types import (
    ADD_LEARNER_NODE,
    ADD_NODE,
    ENTRY_CONF_CHANGE,
    ENTRY_NORMAL,
    MSG_APP,
    MSG_APP_RESP,
    MSG_HEARTBEAT,
    MSG_HEARTBEAT_RESP,
    MSG_HUP,
    MSG_PRE_VOTE,
    MSG_PRE_VOTE_RESP,
    MSG_PROP,
    MSG_READ_INDEX,
    MSG_SNAP,
    MSG_TIMEOUT_NOW,
    MSG_VOTE,
    MSG_VOTE_RESP,
    REMOVE_NODE,
    ConfChange,
    ConfChangeSingle,
    ConfChangeV2,
    ConfState,
    Entry,
    HardState,
    Message,
    Snapshot,
)
from tests.raft.group import Group, Member, storage_with


def entries(*terms: int, first: int = 2) -> list[Entry]:
    return [Entry(ENTRY_NORMAL, term, first + place, b"x") for place, term in enumerate(terms)]


def follower(*terms: int, term: int = 0, commit: int = 1, voters: int = 3, **options: object) -> Member:
    storage = storage_with(entries(*terms), list(range(1, voters + 1)), HardState(term, 0, commit))
    member = Member(1, storage, **options)
    member.work()
    return member


def leader(*terms: int, term: int = 1, voters: int = 3, **options: object) -> Member:
    """Member 1 leads term `term`+1; its followers have not answered yet."""
    member = follower(*terms, term=term, voters=voters, **options)
    member.node.campaign()
    member.work()
    for id in range(2, voters // 2 + 2):
        member.step(Message(MSG_VOTE_RESP, to=1, frm=id, term=member.raft.term))
    assert member.raft.role == LEADER
    return member


def of_type(messages: list[Message], kind: int) -> list[Message]:
    return [message for message in messages if message.type == kind]


# -------------------------------------------------------------------------------- terms (P 5.1)


def test_a_higher_term_makes_a_follower_and_only_leaders_messages_name_the_leader() -> None:
    member = leader()
    member.step(Message(MSG_APP_RESP, to=1, frm=2, term=9))
    assert (member.raft.role, member.raft.term, member.raft.lead, member.raft.vote) == (FOLLOWER, 9, 0, 0)
    member.step(Message(MSG_HEARTBEAT, to=1, frm=3, term=10))
    assert (member.raft.term, member.raft.lead) == (10, 3)


def test_a_pre_vote_of_a_higher_term_changes_nothing_and_a_grant_carries_its_term() -> None:
    member = follower(term=3)
    (answer,) = member.step(Message(MSG_PRE_VOTE, to=1, frm=2, term=9, index=9, log_term=3))
    assert (answer.type, answer.term, answer.reject) == (MSG_PRE_VOTE_RESP, 9, False)
    assert (member.raft.term, member.raft.vote) == (3, 0)


def test_a_rejection_carries_the_own_term() -> None:
    member = follower(5, term=5)
    (answer,) = member.step(Message(MSG_PRE_VOTE, to=1, frm=2, term=9, index=9, log_term=4))
    assert (answer.term, answer.reject) == (5, True)


def test_an_old_leader_is_told_the_term_when_votes_are_guarded() -> None:
    for option in ({"pre_vote": True}, {"check_quorum": True}, {}):
        member = follower(term=5, **option)
        answers = member.step(Message(MSG_APP, to=1, frm=2, term=4, index=1, log_term=1))
        assert [(m.type, m.term, m.index) for m in answers] == ([(MSG_APP_RESP, 5, 0)] if option else [])


def test_an_old_pre_vote_is_rejected_and_other_old_messages_ignored() -> None:
    member = follower(term=5)
    (answer,) = member.step(Message(MSG_PRE_VOTE, to=1, frm=2, term=4, index=9, log_term=9))
    assert (answer.reject, answer.term) == (True, 5)
    assert member.step(Message(MSG_VOTE, to=1, frm=2, term=4, index=9, log_term=9)) == []


# -------------------------------------------------------------------------------- votes (P 5.2, 5.4.1)


def test_one_vote_a_term_first_come_first_served() -> None:
    member = follower(term=1)
    (first,) = member.step(Message(MSG_VOTE, to=1, frm=2, term=2, index=1, log_term=1))
    (second,) = member.step(Message(MSG_VOTE, to=1, frm=3, term=2, index=1, log_term=1))
    (again,) = member.step(Message(MSG_VOTE, to=1, frm=2, term=2, index=1, log_term=1))
    assert (first.reject, second.reject, again.reject) == (False, True, False)


@pytest.mark.parametrize(
    ("log_term", "index", "granted"),
    [(1, 9, False), (2, 2, False), (2, 3, True), (2, 4, True), (3, 1, True)],
)
def test_a_vote_needs_a_log_as_complete(log_term: int, index: int, granted: bool) -> None:
    member = follower(1, 2, term=2)
    (answer,) = member.step(Message(MSG_VOTE, to=1, frm=2, term=3, index=index, log_term=log_term))
    assert answer.reject is not granted


def test_a_vote_leaves_only_after_it_is_stored() -> None:
    # P 5.1, T 3.8: currentTerm and votedFor are updated on stable storage before responding.
    member = follower(term=1)
    member.node.step(Message(MSG_VOTE, to=1, frm=2, term=2, index=1, log_term=1))
    ready = member.node.ready()
    assert ready.hard_state is not None
    assert (ready.hard_state.term, ready.hard_state.vote, ready.must_sync) == (2, 2, True)
    assert ([m.type for m in ready.messages], ready.early) == ([MSG_VOTE_RESP], 0)


def test_a_candidates_own_vote_counts_after_it_is_stored() -> None:
    member = follower(voters=1)
    member.node.campaign()
    ready = member.node.ready()
    assert (member.raft.role, ready.must_sync) == (CANDIDATE, True)
    member.store(ready)
    member.node.advance(ready)
    assert member.raft.role == LEADER


def test_a_real_vote_restarts_the_election_timer_and_a_pre_vote_does_not() -> None:
    member = follower(term=1)
    for _ in range(5):
        member.node.tick()
    member.step(Message(MSG_PRE_VOTE, to=1, frm=2, term=2, index=1, log_term=1))
    assert member.raft.election_elapsed == 5
    member.step(Message(MSG_VOTE, to=1, frm=2, term=2, index=1, log_term=1))
    assert member.raft.election_elapsed == 0


def test_a_leader_that_is_alive_keeps_others_from_being_elected() -> None:
    # T 4.2.3: a request with a higher term is ignored within an election timeout of hearing from a leader.
    member = follower(term=1, check_quorum=True)
    member.step(Message(MSG_HEARTBEAT, to=1, frm=3, term=1))
    request = Message(MSG_VOTE, to=1, frm=2, term=9, index=9, log_term=9)
    assert member.step(request) == []
    assert member.raft.term == 1
    request.context = b"CampaignTransfer"
    (answer,) = member.step(request)
    assert (answer.reject, member.raft.term) == (False, 9)


def test_votes_of_the_other_kind_do_not_count() -> None:
    member = follower(term=1, pre_vote=True)
    member.node.campaign()
    member.work()
    assert member.raft.role == PRE_CANDIDATE
    member.step(Message(MSG_VOTE_RESP, to=1, frm=2, term=1))
    assert member.raft.role == PRE_CANDIDATE
    member.step(Message(MSG_PRE_VOTE_RESP, to=1, frm=2, term=2))
    assert (member.raft.role, member.raft.term) == (CANDIDATE, 2)
    member.step(Message(MSG_PRE_VOTE_RESP, to=1, frm=3, term=2))
    assert member.raft.role == CANDIDATE


def test_a_ballot_counts_once() -> None:
    member = follower(voters=5)
    member.node.campaign()
    member.work()
    for _ in range(3):
        member.step(Message(MSG_VOTE_RESP, to=1, frm=2, term=1))
    assert member.raft.role == CANDIDATE
    member.step(Message(MSG_VOTE_RESP, to=1, frm=3, term=1))
    assert member.raft.role == LEADER


def test_a_lost_election_ends_in_the_same_term() -> None:
    member = follower()
    member.node.campaign()
    member.work()
    for id in (2, 3):
        member.step(Message(MSG_VOTE_RESP, to=1, frm=id, term=1, reject=True))
    assert (member.raft.role, member.raft.term) == (FOLLOWER, 1)


def test_election_timeouts_are_spread_by_the_injected_randomness() -> None:
    # P 5.2: chosen from [timeout, 2 * timeout) at each change of role or term.
    draws = [0, 4, 9]
    storage = storage_with([], [1, 2, 3])
    member = Member.__new__(Member)
    config = Config(1, storage, lambda bound: draws[member.drawn % 3] % bound, applied=1)  # type: ignore[attr-defined]
    member.drawn = 1  # type: ignore[attr-defined]
    from quorate.raft.node import RawNode

    node = RawNode(config)
    assert node.raft.randomized_election_timeout == 14
    for _ in range(13):
        node.tick()
    assert node.raft.role == FOLLOWER
    member.drawn = 2  # type: ignore[attr-defined]
    node.tick()
    assert (node.raft.role, node.raft.randomized_election_timeout) == (CANDIDATE, 19)


def test_no_campaign_while_a_configuration_change_is_committed_and_not_applied() -> None:
    change = Entry(ENTRY_CONF_CHANGE, 1, 2, codec.encode_conf_change(ConfChange(0, ADD_NODE, 4)))
    storage = storage_with([change], [1, 2, 3], HardState(1, 0, 2))
    member = Member(1, storage)
    member.node.campaign()
    assert member.raft.role == FOLLOWER
    member.work()
    member.node.campaign()
    assert member.raft.role == CANDIDATE
    assert member.raft.tracker.config.voters == [1, 2, 3, 4]


def test_strangers_learners_and_those_who_await_a_snapshot_do_not_campaign() -> None:
    stranger = Member(9, storage_with([], [1, 2, 3]))
    learner = Member(9, storage_with([], [1, 2, 3], learners=[9]))
    restoring = follower()
    snapshot = Snapshot(None, 7, 1, ConfState([1, 2, 3]))
    restoring.node.step(Message(MSG_SNAP, to=1, frm=2, term=1, snapshot=snapshot))
    for member in (stranger, learner, restoring):
        member.node.campaign()
        assert member.raft.role == FOLLOWER
    restoring.work()
    restoring.node.campaign()
    assert restoring.raft.role == CANDIDATE


def test_timeout_now_skips_the_pre_vote_and_marks_its_requests() -> None:
    # T 3.10.
    member = follower(term=1, pre_vote=True)
    requests = member.step(Message(MSG_TIMEOUT_NOW, to=1, frm=2, term=1))
    assert member.raft.role == CANDIDATE
    assert {(m.type, m.context, m.term) for m in requests} == {(MSG_VOTE, b"CampaignTransfer", 2)}


# -------------------------------------------------------------------------------- the log (P 5.3)


def test_the_log_matching_check_and_the_hint() -> None:
    # P 5.3 (end): the hint skips a whole term of conflicting entries at once.
    member = follower(1, 3, 3, 3, term=4)
    (answer,) = member.step(Message(MSG_APP, to=1, frm=2, term=4, index=5, log_term=2))
    assert (answer.reject, answer.index, answer.reject_hint, answer.log_term) == (True, 5, 2, 1)


def test_a_leader_skips_its_own_later_terms_upon_a_rejection() -> None:
    member = leader(2, 5, 5, 5, term=5)
    progress = member.raft.tracker.progress[2]
    member.raft.tracker.progress[2].next = 6
    member.step(Message(MSG_APP_RESP, to=1, frm=2, term=6, index=5, reject=True, reject_hint=5, log_term=3))
    assert progress.next == 3


def test_matching_entries_stay_even_when_the_message_is_old() -> None:
    # P figure 2, AppendEntries 3: only a conflicting entry cuts the log.
    member = follower(1, 1, 1, 1, term=1)
    (answer,) = member.step(Message(MSG_APP, to=1, frm=2, term=1, index=1, log_term=1, entries=entries(1, 1)))
    assert (answer.index, member.raft.log.last_index()) == (3, 5)


def test_a_conflicting_tail_is_replaced() -> None:
    member = follower(1, 1, 1, 1, term=1)
    new = entries(1, 2)
    (answer,) = member.step(Message(MSG_APP, to=1, frm=2, term=2, index=1, log_term=1, entries=new))
    assert (answer.index, member.storage.last_index(), member.storage.term(3)) == (3, 3, 2)


def test_a_conflict_with_what_is_committed_is_fatal() -> None:
    member = follower(1, 1, term=1, commit=3)
    message = Message(MSG_APP, to=1, frm=2, term=2, index=3, log_term=1, entries=entries(2, first=4))
    member.step(message)
    member.raft.log.committed = 4
    member.raft.log.applied = member.raft.log.applying = 4
    conflict = [*entries(1, first=3), *entries(3, first=4)]
    member.raft.log.committed = 2
    member.raft.log.applied = member.raft.log.applying = 2
    member.raft.log.committed = 4
    with pytest.raises(CorruptError, match="conflict with committed entry"):
        member.raft.log.maybe_append(2, 1, conflict, 4)


def test_a_follower_commits_no_further_than_the_message_proves() -> None:
    # P figure 2, AppendEntries 5.
    member = follower(1, 1, 1, term=1)
    member.step(Message(MSG_APP, to=1, frm=2, term=1, index=1, log_term=1, entries=entries(1), commit=9))
    assert member.raft.log.committed == 2


def test_a_commit_beyond_the_log_is_fatal() -> None:
    member = follower(1, term=1)
    with pytest.raises(CorruptError, match=r"tocommit\(9\) is out of range \[lastIndex\(2\)\]"):
        member.step(Message(MSG_HEARTBEAT, to=1, frm=2, term=1, commit=9))


def test_a_stale_append_is_answered_with_the_commit_index() -> None:
    member = follower(1, 1, term=1, commit=3)
    (answer,) = member.step(Message(MSG_APP, to=1, frm=2, term=1, index=1, log_term=1))
    assert (answer.index, answer.reject) == (3, False)


def test_an_acknowledgement_leaves_only_after_its_entries_are_stored() -> None:
    member = follower(term=1)
    member.node.step(Message(MSG_APP, to=1, frm=2, term=1, index=1, log_term=1, entries=entries(1)))
    ready = member.node.ready()
    assert (len(ready.entries), ready.early, ready.must_sync) == (1, 0, True)
    assert [m.type for m in ready.messages] == [MSG_APP_RESP]


def test_a_leader_may_replicate_before_its_own_sync_but_not_count_itself() -> None:
    # T 10.2.1.
    member = leader(voters=3)
    member.node.propose([b"a", b"b"])
    ready = member.node.ready()
    assert ready.early == len(ready.messages) == len(of_type(ready.messages, MSG_APP))
    member.node.step(Message(MSG_APP_RESP, to=1, frm=2, term=2, index=2))
    last = ready.entries[-1].index
    member.node.step(Message(MSG_APP_RESP, to=1, frm=2, term=2, index=last))
    assert member.raft.log.committed == 2
    member.store(ready)
    member.node.advance(ready)
    assert member.raft.log.committed == last


# -------------------------------------------------------------------------------- commit (P 5.4.2)


def test_entries_of_earlier_terms_commit_only_with_one_of_the_own_term() -> None:
    # P figure 8.
    member = leader(1, 2, term=3)
    member.step(Message(MSG_APP_RESP, to=1, frm=2, term=4, index=3))
    assert member.raft.log.committed == 1
    member.step(Message(MSG_APP_RESP, to=1, frm=2, term=4, index=4))
    assert member.raft.log.committed == 4


def test_a_new_leader_appends_an_empty_entry_and_probes() -> None:
    member = follower(1, term=1)
    member.node.campaign()
    member.work()
    messages = of_type(member.step(Message(MSG_VOTE_RESP, to=1, frm=2, term=2)), MSG_APP)
    assert [(m.to, m.index, len(m.entries), m.entries[0].data) for m in messages] == [(2, 2, 1, None), (3, 2, 1, None)]
    assert member.raft.pending_conf_index == 2
    assert [p.describe() for p in member.raft.tracker.progress.values()][
        1
    ] == "StateProbe match=0 next=3 paused inactive"


def test_a_heartbeat_does_not_commit_what_the_peer_may_lack() -> None:
    member = leader(1, 1)
    member.step(Message(MSG_APP_RESP, to=1, frm=2, term=2, index=4))
    member.raft.tracker.progress[3].match = 2
    member.node.tick()
    beats = of_type(member.work(), MSG_HEARTBEAT)
    assert {beat.to: beat.commit for beat in beats} == {2: 4, 3: 2}


def test_an_acknowledgement_beyond_the_log_is_ignored() -> None:
    member = leader()
    member.step(Message(MSG_APP_RESP, to=1, frm=2, term=2, index=99))
    assert member.raft.tracker.progress[2].match == 0


def test_match_never_goes_back() -> None:
    member = leader(1, 1)
    for index in (4, 2, 3):
        member.step(Message(MSG_APP_RESP, to=1, frm=2, term=2, index=index))
    assert member.raft.tracker.progress[2].match == 4


# -------------------------------------------------------------------------------- proposals


def test_a_batch_is_one_append() -> None:
    member = leader()
    member.step(Message(MSG_APP_RESP, to=1, frm=2, term=2, index=2))
    member.node.propose([b"a", b"b", b"c"])
    ready = member.node.ready()
    assert [entry.data for entry in ready.entries] == [b"a", b"b", b"c"]
    assert [(m.to, len(m.entries)) for m in of_type(ready.messages, MSG_APP)] == [(2, 3)]


def test_proposals_are_dropped_without_a_leader_and_while_it_hands_over() -> None:
    with pytest.raises(ProposalDropped):
        follower().node.propose([b"a"])
    member = leader()
    member.node.transfer_leader(2)
    with pytest.raises(ProposalDropped):
        member.node.propose([b"a"])
    group = Group(3, disable_proposal_forwarding=True)
    group.elect(1)
    with pytest.raises(ProposalDropped):
        group[2].node.propose([b"a"])


def test_a_follower_forwards_a_batch_without_a_term() -> None:
    group = Group(3)
    group.elect(1)
    group[2].node.propose([b"a", b"b"])
    (message,) = group[2].work()
    assert (message.type, message.to, message.frm, message.term, len(message.entries)) == (MSG_PROP, 1, 2, 0, 2)


def test_a_forwarded_proposal_that_is_delivered_twice_is_two_proposals() -> None:
    group = Group(3)
    group.elect(1)
    group[2].node.propose([b"a"])
    (message,) = group[2].work()
    group[1].node.step(message)
    group[1].node.step(message)
    group.settle()
    assert [entry.index for entry in group[3].applied] == [2, 3, 4]
    assert [entry.data for entry in group[3].applied] == [None, b"a", b"a"]


def test_uncommitted_size_is_limited_and_freed_when_applied() -> None:
    group = Group(3, max_uncommitted_size=10)
    group.elect(1)
    node = group[1].node
    node.propose([b"0123456789abc"])  # the first always passes
    with pytest.raises(ProposalDropped):
        node.propose([b"x"])
    node.propose([b""])  # and so does what has no data
    group.settle()
    node.propose([b"x"])


def test_an_empty_batch_is_nothing() -> None:
    member = leader()
    member.node.propose([])
    assert not member.node.has_ready()


# -------------------------------------------------------------------------------- sizes and flow


def test_an_append_holds_at_least_one_entry_and_no_more_than_its_size() -> None:
    group = Group(2, max_size_per_msg=60)
    group.elect(1)
    group.delivered = []
    group[1].node.propose([b"x" * 20] * 5 + [b"y" * 100] * 2)
    group.settle()
    assert [len(m.entries) for m in group.delivered if m.type == MSG_APP and m.entries] == [2, 2, 1, 1, 1]


def test_committed_entries_are_handed_out_within_their_limit() -> None:
    member = Member(1, storage_with([], [1]), max_committed_size_per_ready=70)
    member.node.campaign()
    member.work()
    member.node.propose([b"x" * 20] * 5)
    counts = []
    while member.node.has_ready():
        ready = member.node.ready()
        member.store(ready)
        counts.append(len(ready.committed_entries))
        member.node.advance(ready)
    assert counts == [0, 2, 2, 1]


def test_a_full_pipeline_waits_and_a_heartbeat_response_probes_it() -> None:
    group = Group(2, max_inflight_msgs=2)
    group.elect(1)
    group.isolated = {2}
    for _ in range(5):
        group[1].node.propose([b"x"])
        group.settle()
    appends = [m for m in group.dropped if m.type == MSG_APP]
    assert len(appends) == 2
    assert group[1].raft.tracker.progress[2].describe() == "StateReplicate match=2 next=5 paused inflight=2[full]"
    answers = group[1].step(Message(MSG_HEARTBEAT_RESP, to=1, frm=2, term=1))
    assert [(m.type, m.index, len(m.entries)) for m in answers] == [(MSG_APP, 4, 0)]


def test_inflight_bytes_are_limited_too() -> None:
    group = Group(2, max_size_per_msg=50, max_inflight_bytes=50)
    group.elect(1)
    group.isolated = {2}
    for _ in range(5):
        group[1].node.propose([b"x" * 30])
        group.settle()
    assert len([m for m in group.dropped if m.type == MSG_APP]) == 2


def test_unreachable_peers_are_probed() -> None:
    group = Group(2)
    group.elect(1)
    group[1].node.report_unreachable(2)
    assert group[1].raft.tracker.progress[2].describe() == "StateProbe match=2 next=3"


def test_a_snapshot_goes_to_an_active_peer_whose_entries_are_compacted_away() -> None:
    group = Group(3)
    group.elect(1)
    group.isolated = {3}
    for _ in range(5):
        group[1].node.propose([b"x"])
        group.settle()
    leader_storage = group[1].storage
    leader_storage.create_snapshot(6, None, b"state")
    leader_storage.compact(6)
    group.isolated = set()
    group.tick(1, 1)
    assert group[3].raft.log.last_index() == 7
    assert group[3].storage.snapshot().index == 6
    assert group[1].raft.tracker.progress[3].describe().startswith("StateReplicate match=7")


def test_a_snapshot_that_leaves_the_member_out_is_ignored() -> None:
    member = follower(term=1)
    snapshot = Snapshot(None, 9, 1, ConfState([2, 3], learners_next=[1]))
    (answer,) = member.step(Message(MSG_SNAP, to=1, frm=2, term=1, snapshot=snapshot))
    assert (answer.type, answer.index, member.raft.log.last_index()) == (MSG_APP_RESP, 1, 1)


def test_an_old_snapshot_is_answered_with_the_commit_index() -> None:
    member = follower(1, 1, 1, term=1, commit=4)
    member.storage.compact(4)
    for index in (2, 4):
        snapshot = Snapshot(None, index, 1, ConfState([1, 2, 3]))
        (answer,) = member.step(Message(MSG_SNAP, to=1, frm=2, term=1, snapshot=snapshot))
        assert (answer.index, member.raft.log.committed, member.raft.log.first_index()) == (4, 4, 5)


def test_a_snapshot_that_the_log_holds_only_moves_the_commit_index() -> None:
    member = follower(1, 1, 1, term=1)
    snapshot = Snapshot(None, 3, 1, ConfState([1, 2, 3]))
    (answer,) = member.step(Message(MSG_SNAP, to=1, frm=2, term=1, snapshot=snapshot))
    assert (answer.index, member.raft.log.committed, member.raft.log.last_index()) == (3, 3, 4)


# -------------------------------------------------------------------------------- the clock


def test_a_leader_without_a_quorum_steps_down_and_learners_do_not_help() -> None:
    # T 6.2.
    group = Group(4, learners=[4], check_quorum=True)
    group.elect(1)
    group.tick(1, 10)
    assert group[1].raft.role == LEADER
    group.isolated = {2, 3}
    group.tick(1, 20)
    assert group[1].raft.role == FOLLOWER


def test_a_transfer_that_takes_too_long_is_given_up() -> None:
    group = Group(3)
    group.elect(1)
    group.isolated = {2}
    group[1].node.propose([b"x"])
    group.settle()
    group[1].node.transfer_leader(2)
    with pytest.raises(ProposalDropped):
        group[1].node.propose([b"x"])
    group.tick(1, 9)
    assert group[1].raft.lead_transferee == 2
    group.tick(1, 1)
    group[1].node.propose([b"x"])


def test_a_transfer_brings_the_peer_up_to_date_first() -> None:
    group = Group(3, pre_vote=True, check_quorum=True)
    group.elect(1)
    group.isolated = {2}
    group[1].node.propose([b"x"])
    group.settle()
    group.isolated = set()
    group[1].node.transfer_leader(2)
    group.settle()
    group.tick(1, 1)
    assert (group[2].raft.role, group[1].raft.role) == (LEADER, FOLLOWER)
    assert group[2].raft.log.last_index() == group[1].raft.log.last_index() == 4


def test_a_transfer_to_oneself_or_a_learner_is_ignored_and_another_target_replaces_the_first() -> None:
    group = Group(4, learners=[4])
    group.elect(1)
    for target in (1, 4, 9):
        group[1].node.transfer_leader(target)
        assert group[1].raft.lead_transferee == 0
    group.isolated = {2, 3}
    group[1].node.transfer_leader(2)
    group[1].node.transfer_leader(3)
    assert group[1].raft.lead_transferee == 3


# -------------------------------------------------------------------------------- configuration (P 6, T 4)


def test_a_second_change_waits_until_the_first_is_applied() -> None:
    group = Group(3)
    group.elect(1)
    node = group[1].node
    node.propose_conf_change(ConfChange(0, ADD_LEARNER_NODE, 4))
    node.propose_conf_change(ConfChange(0, ADD_LEARNER_NODE, 5))
    group.settle()
    assert [entry.type for entry in group[2].applied] == [ENTRY_NORMAL, ENTRY_CONF_CHANGE, ENTRY_NORMAL]
    assert group[2].raft.tracker.config.learners == [4]
    node.propose_conf_change(ConfChange(0, ADD_LEARNER_NODE, 5))
    group.settle()
    assert group[3].raft.tracker.config.describe() == "voters=(1 2 3) learners=(4 5)"


def test_the_configuration_changes_when_the_entry_is_applied_not_when_it_is_appended() -> None:
    member = leader(voters=1)
    member.node.propose_conf_change(ConfChange(0, ADD_NODE, 2))
    ready = member.node.ready()
    member.store(ready)
    member.node.advance(ready)
    assert (member.raft.tracker.config.voters, member.raft.log.committed) == ([1], 3)
    member.work()
    assert member.raft.tracker.config.voters == [1, 2]


def test_a_change_of_member_zero_changes_nothing() -> None:
    member = leader()
    state = member.node.apply_conf_change(ConfChange(0, REMOVE_NODE, 0))
    assert state.voters == [1, 2, 3]


def test_an_impossible_change_in_the_log_is_fatal() -> None:
    member = leader(voters=1)
    for change in (
        ConfChange(0, REMOVE_NODE, 1),
        ConfChange(0, 77, 2),
        ConfChangeV2(),
    ):
        with pytest.raises(CorruptError, match="conf change"):
            member.node.apply_conf_change(change)
    assert member.raft.tracker.config.voters == [1]


def test_a_removed_leader_leads_on_and_takes_no_proposals() -> None:
    group = Group(3)
    group.elect(1)
    group[1].node.propose_conf_change(ConfChange(0, REMOVE_NODE, 1))
    group.settle()
    assert group[1].raft.role == LEADER
    with pytest.raises(ProposalDropped):
        group[1].node.propose([b"x"])


def test_a_smaller_quorum_commits_what_waited_for_it() -> None:
    group = Group(2)
    group.elect(1)
    group[1].node.propose_conf_change(ConfChange(0, REMOVE_NODE, 2))
    group[1].node.propose([b"x"])
    group.settle()
    last = group[1].raft.log.last_index()
    assert group[1].raft.log.committed == last == 4


def test_joint_configurations_need_both_majorities() -> None:
    # P 6.
    group = Group(3)
    group.elect(1)
    steps = [ConfChangeSingle(ADD_NODE, 4), ConfChangeSingle(REMOVE_NODE, 3), ConfChangeSingle(ADD_NODE, 5)]
    group[1].node.propose_conf_change(ConfChangeV2(2, steps))
    group.settle()
    assert group[1].raft.tracker.config.describe() == "voters=(1 2 4 5)&&(1 2 3)"
    group[1].node.propose([b"x"])
    group.settle()
    # 4 and 5 do not exist: the incoming half is stuck.
    assert group[1].raft.log.committed == 3
    group[1].step(Message(MSG_APP_RESP, to=1, frm=4, term=1, index=4))
    assert group[1].raft.log.committed == 4


# -------------------------------------------------------------------------------- reads (P 8, T 6.4)


def read(member: Member, context: bytes = b"ctx") -> None:
    member.node.read_index(context)


def test_a_sole_voter_reads_at_once_but_not_before_its_terms_first_commit() -> None:
    member = follower(1, 1, term=1, voters=1)
    member.node.campaign()
    ready = member.node.ready()
    member.store(ready)
    member.node.advance(ready)
    # It leads, its log reaches to 4, but what it knows to be committed is what it happened to have stored.
    assert (member.raft.role, member.raft.log.committed) == (LEADER, 1)
    read(member, b"early")
    member.work()
    read(member, b"late")
    member.work()
    assert [(state.context, state.index) for state in member.reads] == [(b"early", 4), (b"late", 4)]


def test_a_removed_leader_does_not_read_alone() -> None:
    group = Group(2)
    group.elect(1)
    group[1].node.propose_conf_change(ConfChange(0, REMOVE_NODE, 1))
    group.settle()
    assert group[1].raft.tracker.config.is_singleton()
    group.isolated = {2}
    read(group[1])
    group.settle()
    assert group[1].reads == []


def test_one_round_of_heartbeats_confirms_all_reads_before_it() -> None:
    group = Group(3)
    group.elect(1)
    group.isolated = {2, 3}
    for number in range(3):
        read(group[1], b"%d" % number)
        group.settle()
    assert group[1].reads == []
    group.isolated = {3}
    group.tick(1, 1)
    assert [state.context for state in group[1].reads] == [b"0", b"1", b"2"]
    assert {state.index for state in group[1].reads} == {2}


def test_an_echo_of_an_older_round_confirms_only_older_reads() -> None:
    member = leader()
    member.step(Message(MSG_APP_RESP, to=1, frm=2, term=2, index=2))
    read(member, b"first")
    (beat, _) = of_type(member.work(), MSG_HEARTBEAT)
    read(member, b"second")
    member.work()
    member.step(Message(MSG_HEARTBEAT_RESP, to=1, frm=2, term=2, context=beat.context))
    assert [state.context for state in member.reads] == [b"first"]


@pytest.mark.parametrize("context", [b"\xff" * 8, b"\x01", b"\x09" + bytes(7), b"longer than eight bytes"])
def test_an_echo_that_was_never_sent_confirms_nothing(context: bytes) -> None:
    member = leader()
    member.step(Message(MSG_APP_RESP, to=1, frm=2, term=2, index=2))
    read(member)
    member.work()
    member.step(Message(MSG_HEARTBEAT_RESP, to=1, frm=2, term=2, context=context))
    assert member.reads == []


def test_a_follower_reads_through_its_leader() -> None:
    group = Group(3)
    group.elect(1)
    read(group[2])
    group.settle()
    assert [(state.index, state.context) for state in group[2].reads] == [(2, b"ctx")]


def test_a_read_without_a_leader_is_dropped() -> None:
    member = follower()
    read(member)
    assert member.work() == []


def test_lease_based_reads_need_no_round() -> None:
    group = Group(3, read_only=READ_ONLY_LEASE_BASED, check_quorum=True)
    group.elect(1)
    group.isolated = {2, 3}
    read(group[1])
    group.settle()
    assert [state.index for state in group[1].reads] == [2]


def test_reads_end_with_the_term() -> None:
    member = leader()
    read(member)
    assert len(member.raft.postponed_reads) == 1
    member.step(Message(MSG_HEARTBEAT, to=1, frm=2, term=9))
    assert (member.raft.postponed_reads, member.reads) == ([], [])


# -------------------------------------------------------------------------------- start and restart


def test_bootstrap_entries_make_a_group() -> None:
    storage = MemoryStorage()
    first = bootstrap_entries([(1, b"one"), (2, None)])
    storage.append(first)
    storage.set_hard_state(HardState(1, 0, 2))
    member = Member.__new__(Member)
    member.storage = storage
    from quorate.raft.node import RawNode

    member.node = RawNode(Config(1, storage, lambda _bound: 0))
    member.raft = member.node.raft
    member.applied, member.reads = [], []
    member.work()
    assert member.raft.tracker.config.voters == [1, 2]
    assert codec.decode_conf_change(first[0].data or b"").context == b"one"


@pytest.mark.parametrize("commit", [0, 9])
def test_a_stored_commit_index_outside_of_the_log_is_fatal(commit: int) -> None:
    storage = storage_with(entries(1), [1], HardState(1, 0, commit))
    with pytest.raises(CorruptError, match="is out of range"):
        Member(1, storage)


def test_a_restart_hands_out_again_what_follows_the_applied_index() -> None:
    storage = storage_with(entries(1, 1, 1), [1, 2], HardState(1, 0, 3))
    member = Member(1, storage)
    member.work()
    assert [entry.index for entry in member.applied] == [2, 3]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"id": 0}, "none as id"),
        ({"id": 2**64 - 1}, "local target"),
        ({"heartbeat_tick": 0}, "heartbeat tick"),
        ({"election_tick": 1}, "election tick"),
        ({"max_inflight_msgs": 0}, "inflight messages"),
        ({"max_inflight_bytes": 5, "max_size_per_msg": 6}, "inflight bytes"),
        ({"read_only": READ_ONLY_LEASE_BASED}, "CheckQuorum"),
    ],
)
def test_contradicting_parameters_are_refused(options: dict[str, int], text: str) -> None:
    given = {"id": 1, "storage": MemoryStorage(), "random": lambda _bound: 0, **options}
    with pytest.raises(ValueError, match=text):
        Config(**given).validate()


# -------------------------------------------------------------------------------- Ready


def test_a_new_commit_index_alone_needs_no_sync() -> None:
    member = leader()
    member.node.step(Message(MSG_APP_RESP, to=1, frm=2, term=2, index=2))
    ready = member.node.ready()
    assert ready.hard_state is not None
    assert (ready.hard_state.commit, ready.must_sync, len(ready.committed_entries)) == (2, False, 1)


def test_a_quiet_member_has_no_ready_and_a_second_ready_needs_an_advance() -> None:
    member = leader()
    assert not member.node.has_ready()
    member.node.propose([b"x"])
    first = member.node.ready()
    with pytest.raises(AssertionError, match="two accepted Ready"):
        member.node.ready()
    member.store(first)
    member.node.advance(first)
    assert not member.node.has_ready()


def test_steps_between_ready_and_advance_are_kept_for_the_next_ready() -> None:
    member = leader(voters=1)
    member.node.propose([b"a"])
    first = member.node.ready()
    member.node.propose([b"b"])
    member.store(first)
    member.node.advance(first)
    second = member.node.ready()
    assert [entry.data for entry in second.entries] == [b"b"]
    assert [entry.data for entry in second.committed_entries] == [b"a"]


def test_log_lines_cost_nothing_when_nobody_listens() -> None:
    class Strict(Logger):
        def write(self, level: int, text: str) -> None:
            raise AssertionError(f"unwanted line {level} {text}")

    class Collect(Logger):
        def __init__(self) -> None:
            super().__init__(DEBUG)
            self.lines: list[tuple[int, str]] = []

        def write(self, level: int, text: str) -> None:
            self.lines.append((level, text))

    group = Group(3, logger=Strict())
    group.elect(1)
    collect = Collect()
    member = Member(1, storage_with([], [1]), logger=collect)
    member.node.campaign()
    member.work()
    assert collect.lines[-1] == (1, "1 became leader at term 1")


# -------------------------------------------------------------------------------- hostile peers


@pytest.mark.parametrize(
    "message",
    [
        Message(99, to=1, frm=2, term=1),
        Message(MSG_HUP, to=1, frm=2, term=1),
        Message(MSG_VOTE, to=1, frm=2, term=0),
        Message(MSG_APP, to=1, frm=2, term=0),
        Message(MSG_APP, to=1, frm=0, term=1),
        Message(MSG_APP_RESP, to=1, frm=7, term=1),
        Message(MSG_PROP, to=1, frm=2),
        Message(MSG_PROP, to=1, frm=2, term=1, entries=entries(0)),
        Message(MSG_PROP, to=1, frm=2, entries=[Entry(9)]),
        Message(MSG_PROP, to=1, frm=2, entries=[Entry(ENTRY_CONF_CHANGE, data=b"\xff")]),
        Message(MSG_READ_INDEX, to=1, frm=2),
        Message(MSG_SNAP, to=1, frm=2, term=1),
        Message(MSG_SNAP, to=1, frm=2, term=1, snapshot=Snapshot(None, 9, 7)),
        Message(MSG_APP, to=1, frm=2, term=1, index=1, log_term=1, entries=entries(1, first=3)),
        Message(MSG_APP, to=1, frm=2, term=1, index=1, log_term=1, entries=entries(2)),
        Message(MSG_APP, to=1, frm=2, term=9, index=1, log_term=1, entries=entries(3, 2)),
        Message(MSG_APP, to=1, frm=2, term=1, index=1, log_term=2),
        Message(MSG_HUP, to=1, frm=2**64 - 1),
    ],
    ids=repr,
)
def test_messages_that_make_no_sense_change_nothing(message: Message) -> None:
    member = follower(1, term=1)
    with pytest.raises(StepError, match="raft"):
        member.node.step(message)
    assert not member.node.has_ready()
    assert (member.raft.term, member.raft.log.last_index()) == (1, 2)


def random_message(rng: random.Random, member: Member) -> Message:
    def small() -> int:
        return rng.choice([0, 0, 1, 1, 2, 3, 4, 5, 2**64 - 1])

    last = member.raft.log.last_index()
    term = member.raft.term
    index = rng.choice([0, 1, last, last - 1, last + 1, small()])
    count = rng.randrange(3)
    first = rng.choice([index + 1, index + 1, small()])
    new = [
        Entry(rng.choice([0, 0, 0, 1, 2, 3]), rng.choice([1, term, small()]), first + n, rng.choice([b"", b"x"]))
        for n in range(count)
    ]
    snapshot = Snapshot(None, rng.choice([last + 2, small()]), rng.choice([1, term, small()]), ConfState([1, 2, 3]))
    return Message(
        rng.randrange(26),
        to=1,
        frm=rng.choice([2, 3, 2, 3, 0, 1, 9, 2**64 - 1, 2**64 - 2]),
        term=rng.choice([0, term, term, term, term + 1, max(term - 1, 0), 2**64 - 1 if rng.random() < 0.01 else term]),
        log_term=rng.choice([0, 1, term, small()]),
        index=index,
        entries=new,
        commit=rng.choice([0, 1, last, small()]) if rng.random() < 0.5 else 0,
        snapshot=snapshot if rng.random() < 0.2 else None,
        reject=rng.random() < 0.3,
        reject_hint=rng.choice([0, last, small()]),
        context=rng.choice([None, b"", b"CampaignTransfer", bytes(8), b"\x01" + bytes(7)]),
        responses=[Message()] if rng.random() < 0.05 else [],
    )


@pytest.mark.parametrize("role", [FOLLOWER, CANDIDATE, LEADER])
@pytest.mark.parametrize("seed", range(40))
def test_no_message_breaks_a_member(role: int, seed: int) -> None:
    # Whatever peers send, a member goes on, or it says that its log is not to be trusted: then it has been told of a
    # commit that it cannot have forgotten, or was given another entry for a committed one, or an impossible change.
    rng = random.Random(seed)
    member = leader(1, 1, max_size_per_msg=30) if role == LEADER else follower(1, 1, term=1, max_size_per_msg=30)
    if role == CANDIDATE:
        member.node.campaign()
    for _ in range(60):
        try:
            member.step(random_message(rng, member))
        except (StepError, ProposalDropped):
            continue
        except CorruptError as error:
            assert re.search("tocommit|conflict with committed|conf change", error.text)  # noqa: PT017
            return
        log = member.raft.log
        assert log.applied <= log.applying <= log.committed <= log.last_index()
        if rng.random() < 0.2:
            member.node.tick()
