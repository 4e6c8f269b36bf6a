"""member add, remove, update, list, promote; move-leader."""

from __future__ import annotations

from quorate.cli.etcdctl.context import ERROR, Context, ExitError, bad_args
from quorate.cli.etcdctl.gotext import quote
from quorate.cli.etcdctl.kv import call, serializable
from quorate.cli.etcdctl.pflag import parse_int
from quorate.cli.etcdctl.session import CallError
from quorate.client import methods
from quorate.proto import rpc_pb2 as pb


def add(context: Context) -> None:
    """Add a member and print what its configuration needs."""
    args = context.args
    if not args:
        raise bad_args("member name not provided")
    if len(args) > 1:
        hints = [f", did you mean --peer-urls={word}" for word in args if word.lower().startswith("http")]
        raise bad_args("too many arguments" + "".join(hints))
    urls = context.text("peer-urls")
    if not urls:
        raise bad_args("member peer urls not provided")
    checked_urls(urls)
    request = pb.MemberAddRequest(peerURLs=urls.split(","), isLearner=context.on("learner"))
    answer = call(context, methods.MEMBER_ADD, request)
    context.printer.show("member-add", answer)
    if context.printer.name == "simple":
        pairs = [
            f"{args[0] if member.ID == answer.member.ID else member.name}={url}"
            for member in answer.members
            for url in member.peerURLs
        ]
        context.print(
            f"\nETCD_NAME={quote(args[0])}\nETCD_INITIAL_CLUSTER={quote(','.join(pairs))}\n"
            f'ETCD_INITIAL_ADVERTISE_PEER_URLS={quote(urls)}\nETCD_INITIAL_CLUSTER_STATE="existing"\n'
        )


def checked_urls(urls: str) -> None:
    """Refuse what etcd's client refuses before it asks the server."""
    from quorate.runtime.urls import UrlError, parse_url

    for url in urls.split(","):
        try:
            parse_url(url)
        except UrlError as error:
            raise ExitError(ERROR, str(error)) from None


def _member_id(context: Context) -> int:
    if len(context.args) != 1:
        raise bad_args("member ID is not provided")
    try:
        return parse_int(context.args[0], 16, 0, 2**64 - 1, "ParseUint")
    except ValueError as error:
        raise bad_args(f"bad member ID arg ({error}), expecting ID in Hex") from None


def remove(context: Context) -> None:
    """Remove a member."""
    number = _member_id(context)
    answer = call(context, methods.MEMBER_REMOVE, pb.MemberRemoveRequest(ID=number))
    context.printer.show("member-remove", answer, number)


def update(context: Context) -> None:
    """Give a member other peer URLs."""
    number = _member_id(context)
    urls = context.text("peer-urls")
    if not urls:
        raise bad_args("member peer urls not provided")
    answer = call(context, methods.MEMBER_UPDATE, pb.MemberUpdateRequest(ID=number, peerURLs=urls.split(",")))
    context.printer.show("member-update", answer, number)


def list_all(context: Context) -> None:
    """List the members."""
    linearizable = not serializable(context.text("consistency"))
    answer = call(context, methods.MEMBER_LIST, pb.MemberListRequest(linearizable=linearizable))
    context.printer.show("member-list", answer)


def promote(context: Context) -> None:
    """Make a learner a voter."""
    number = _member_id(context)
    answer = call(context, methods.MEMBER_PROMOTE, pb.MemberPromoteRequest(ID=number))
    context.printer.show("member-promote", answer, number)


def move_leader(context: Context) -> None:
    """Find the leader among the endpoints and have it hand over."""
    if len(context.args) != 1:
        raise bad_args("move-leader command needs 1 argument")
    try:
        target = parse_int(context.args[0], 16, 0, 2**64 - 1, "ParseUint")
    except ValueError as error:
        raise bad_args(str(error)) from None
    context.prepare()
    endpoints = context.endpoints()
    limit_s = context.command_timeout_s
    try:
        for endpoint in endpoints:
            session = context.session_with(endpoint)
            status = session.call(methods.STATUS, pb.StatusRequest(), limit_s)
            if status.header.member_id == status.leader:
                answer = session.call(methods.MOVE_LEADER, pb.MoveLeaderRequest(targetID=target), limit_s)
                context.printer.show("move-leader", answer, status.leader, target)
                return
    except CallError as error:
        raise ExitError(ERROR, error.text) from None
    raise bad_args(f"no leader endpoint given at [{' '.join(endpoints)}]")
