"""Ids that sort by time."""

import uuid_utils


def new_id() -> str:
    """A UUIDv7 (RFC 9562) as 36 characters."""
    return str(uuid_utils.uuid7())
