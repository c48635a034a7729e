import re
import warnings

import pytest
from qdrant_client import models

from polyvec.testing import HashEncoder
from qdrant_polyvec import Cluster, Collection

MAJORITY, ALL = models.ReadConsistencyType.MAJORITY, models.ReadConsistencyType.ALL
EMBEDDER = HashEncoder(dim=8, multivector_dim=4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"replication_factor": 2, "read_consistency": MAJORITY}, "`read_consistency` is 'majority', which needs 2 of"),
        ({"replication_factor": 3, "read_consistency": ALL}, "`read_consistency` is 'all', which needs 3 of the 3"),
        ({"replication_factor": 2, "read_consistency": 2}, "`read_consistency` is 2, which needs 2 of the 2"),
        (
            {"replication_factor": 2, "write_consistency_factor": 2},
            "`write_consistency_factor` is 2, which needs 2 of the 2",
        ),
    ],
)
def test_options_that_need_every_copy_are_warned_of(options, message):
    with pytest.warns(UserWarning, match=re.escape(message)):
        Cluster(**options).warn_of_a_lost_node()


def test_options_that_survive_a_lost_node_are_not_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for options in (
            {"replication_factor": 2},
            {"replication_factor": 3, "read_consistency": MAJORITY, "write_consistency_factor": 2},
            {"replication_factor": 1, "read_consistency": ALL},  # one copy: nobody asked to survive
            {"read_consistency": MAJORITY},
        ):
            Cluster(**options).warn_of_a_lost_node()


def test_the_copies_of_an_existing_collection_count():
    params = models.CollectionParams(replication_factor=2, write_consistency_factor=1)
    with pytest.warns(UserWarning, match="needs 2 of the 2 copies"):
        Cluster(read_consistency=MAJORITY, replication_factor=5).warn_of_a_lost_node(params)


def test_opening_warns(rest):
    cluster = Cluster(replication_factor=2, read_consistency=MAJORITY)
    with pytest.warns(UserWarning, match="while one node is away, nothing can be read"):
        Collection.open(rest.client(), "docs", embedder=EMBEDDER, cluster=cluster)
