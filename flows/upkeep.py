"""Keep deployments of before going, for one release: name `flows/check.py` and `flows/compact.py` instead."""

from fincon.flows.check import check as check
from fincon.flows.compact import compact as compact
