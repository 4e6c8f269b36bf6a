"""Versions are read and ordered as semver has it, and the cluster's version follows etcd's rules."""

import pytest

from quorate.membership.version import (
    MIN_CLUSTER_VERSION,
    SERVER_VERSION,
    SERVER_VERSION_TEXT,
    V3_5,
    V3_6,
    Downgrade,
    Version,
    check_not_downgraded,
    decide_cluster_version,
    is_valid_cluster_change,
    parse_downgrade_target,
    parse_version,
)

OFF = Downgrade()


@pytest.mark.parametrize("text", ["3.6.14", "0.0.0", "3.7.0-rc.1"])
def test_text_form_is_kept(text):
    assert str(parse_version(text)) == text


def test_metadata_is_dropped():
    assert str(parse_version("3.6.0+git")) == "3.6.0"


@pytest.mark.parametrize("text", ["", "3", "3.6", "3.6.0.1", "a.b.c", "3.-6.0", "3. 6.0", "3.٦.0", "3.6_0.0"])
def test_malformed_versions_are_refused(text):
    with pytest.raises(ValueError):
        parse_version(text)


def test_order():
    texts = ["2.9.9", "3.0.0", "3.6.0-alpha.0", "3.6.0-rc.1", "3.6.0", "3.6.1", "3.10.0", "4.0.0"]
    versions = [parse_version(text) for text in texts]
    assert sorted(set(versions)) == versions
    assert V3_6.cluster() == "3.6"


def test_what_we_report():
    assert parse_version(SERVER_VERSION_TEXT) == SERVER_VERSION
    assert str(MIN_CLUSTER_VERSION) == "3.0.0"


@pytest.mark.parametrize("text", ["3.5", "3.5.0", "3.5.9"])
def test_downgrade_targets_have_no_patch(text):
    assert parse_downgrade_target(text) == V3_5


@pytest.mark.parametrize("text", ["", "x", "3", "3.5.0.0"])
def test_bad_downgrade_targets(text):
    with pytest.raises(ValueError):
        parse_downgrade_target(text)


def test_first_cluster_version_is_the_lowest_server_version():
    assert decide_cluster_version(None, [SERVER_VERSION, Version(3, 4, 33)], OFF) == Version(3, 4)
    assert decide_cluster_version(None, [SERVER_VERSION, None], OFF) == MIN_CLUSTER_VERSION
    assert decide_cluster_version(None, [], OFF) == MIN_CLUSTER_VERSION


def test_cluster_version_only_rises():
    v3_4 = Version(3, 4)
    assert decide_cluster_version(v3_4, [SERVER_VERSION, None], OFF) is None
    assert decide_cluster_version(v3_4, [SERVER_VERSION, Version(3, 4, 1)], OFF) is None
    assert decide_cluster_version(V3_5, [SERVER_VERSION, Version(3, 4, 1)], OFF) is None
    assert decide_cluster_version(V3_6, [Version(3, 5, 1)], OFF) is None
    assert decide_cluster_version(MIN_CLUSTER_VERSION, [SERVER_VERSION, Version(3, 4, 1)], OFF) == v3_4


def test_we_never_raise_it_to_where_etcd_3_5_cannot_follow():
    assert decide_cluster_version(None, [SERVER_VERSION], OFF) == V3_5
    assert decide_cluster_version(MIN_CLUSTER_VERSION, [SERVER_VERSION], OFF) == V3_5
    assert decide_cluster_version(V3_5, [SERVER_VERSION], OFF) is None
    assert decide_cluster_version(V3_6, [SERVER_VERSION], OFF) is None


def test_a_downgrade_job_lowers_it_by_one():
    job = Downgrade(True, "3.5.0")
    assert decide_cluster_version(V3_6, [SERVER_VERSION], job) == V3_5
    assert decide_cluster_version(V3_5, [SERVER_VERSION], job) is None
    with pytest.raises(ValueError, match="invalid downgrade target"):
        decide_cluster_version(V3_6, [SERVER_VERSION], Downgrade(True, "3.4.0"))
    with pytest.raises(ValueError, match="invalid downgrade target"):
        decide_cluster_version(V3_5, [SERVER_VERSION], Downgrade(True, "3.4.0"))


def test_valid_changes():
    assert is_valid_cluster_change(V3_6, V3_5)
    assert is_valid_cluster_change(MIN_CLUSTER_VERSION, V3_6)
    assert not is_valid_cluster_change(V3_6, Version(3, 4))
    assert not is_valid_cluster_change(V3_6, V3_6)


def test_a_server_refuses_a_newer_cluster():
    check_not_downgraded(None)
    check_not_downgraded(V3_6)
    with pytest.raises(ValueError, match="lower than determined cluster version"):
        check_not_downgraded(Version(3, 7))
