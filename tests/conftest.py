"""Before ray is imported anywhere: a token of the tests' own, so that none is left in a home folder."""

import os
import secrets

os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32), RAY_USAGE_STATS_ENABLED="0")
