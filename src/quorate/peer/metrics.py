"""What the network counts, by the names of etcd's metrics (rafthttp/metrics.go, snap/metrics.go)."""

from __future__ import annotations

from quorate.measure import Histogram
from quorate.membership.member import hex_id
from quorate.peer.handler import PeerHandler
from quorate.peer.network import Network, TransferStats

Labels = list[tuple[str, str]]


class Sample:
    """One value of a family: a number, or a histogram."""

    def __init__(self, name: str, labels: Labels, value: float, histogram: Histogram | None = None) -> None:
        self.name = name
        self.labels = labels
        self.value = value
        self.histogram = histogram


def samples(network: Network, handler: PeerHandler) -> list[Sample]:
    """Return all samples."""
    found: list[Sample] = []
    local = hex_id(network.identity.member_id)
    for member_id in sorted(network.stats):
        stats = network.stats[member_id]
        remote = hex_id(member_id)
        pair = [("Local", local), ("Remote", remote)]
        peer = network.peers.get(member_id)
        active = peer is not None and peer.active_since_ns != 0
        found.append(Sample("etcd_network_active_peers", pair, int(active)))
        found.append(Sample("etcd_network_known_peers", pair, int(peer is not None)))
        found.append(Sample("etcd_network_disconnected_peers_total", pair, stats.disconnected))
        to, frm = [("To", remote)], [("From", remote)]
        found.append(Sample("etcd_network_peer_sent_bytes_total", to, stats.sent_bytes))
        found.append(Sample("etcd_network_peer_sent_failures_total", to, stats.sent_failures))
        found.append(Sample("etcd_network_peer_received_bytes_total", frm, stats.received_bytes))
        found.append(Sample("etcd_network_peer_received_failures_total", frm, stats.received_failures))
        found.append(Sample("etcd_network_peer_round_trip_time_seconds", to, 0, stats.rtt_seconds))
    for member_id in sorted(network.snapshots_sent):
        _transfers(found, "etcd_network_snapshot_send_", "To", member_id, network.snapshots_sent[member_id])
    for member_id in sorted(network.snapshots_received):
        _transfers(found, "etcd_network_snapshot_receive_", "From", member_id, network.snapshots_received[member_id])
    found.append(Sample("etcd_snap_db_fsync_duration_seconds", [], 0, handler.db_fsync_seconds))
    found.append(Sample("etcd_snap_db_save_total_duration_seconds", [], 0, handler.db_save_seconds))
    return found


def _transfers(found: list[Sample], prefix: str, label: str, member_id: int, stats: TransferStats) -> None:
    labels = [(label, hex_id(member_id))]
    found.append(Sample(prefix + "success", labels, stats.success))
    found.append(Sample(prefix + "failures", labels, stats.failures))
    found.append(Sample(prefix + "inflights_total", labels, stats.inflights))
    found.append(Sample(prefix + "total_duration_seconds", labels, 0, stats.seconds))
