"""Graphs (Type 5): functions that feed each other."""

from __future__ import annotations

from typing import Any, Optional, Union, cast

from .api import Api, Filter, Names, Update, given, path_of
from .records import Graph, GraphPlan, GraphResult, GraphRun, Page

__all__ = ["Graphs"]


class Graphs(Api):
    """The requests on graphs and their runs."""

    def create_graph(self, graph: Graph) -> Graph:
        """Register a graph; returns the record with its URI.

        ValidationFailed, naming the nodes, for a cycle, an unknown node or a function that is not deployed; Conflict
        when the URI is taken.
        """
        return cast(Graph, self._data("POST", "/graphs", graph))

    def check_graph(self, graph: Graph) -> GraphPlan:
        """How a graph would run; errors as `create_graph`, but nothing is registered."""
        return cast(GraphPlan, self._data("POST", "/graphs/check", graph))

    def get_graph(self, graph_uri: str) -> Graph:
        """The graph's record; NotFound when there is none."""
        return cast(Graph, self._data("GET", path_of("graphs", graph_uri)))

    def update_graph(self, graph_uri: str, update: Union[Graph, Update], *, revision: Optional[int] = None) -> Graph:
        """Replace or change a graph, as `update_policy` does a policy."""
        return cast(Graph, self._put(path_of("graphs", graph_uri), update, revision))

    def delete_graph(self, graph_uri: str) -> None:
        """Remove a graph; its functions stay, and the records of its runs. NotFound when there is none."""
        self._data("DELETE", path_of("graphs", graph_uri))

    def query_graphs(
        self,
        filter: Optional[Filter] = None,
        *,
        limit: Optional[int] = None,
        skip: int = 0,
        sort: Names = None,
        fields: Names = None,
    ) -> Page[Graph]:
        """Graphs that match, as `query_policies`."""
        return self._query("/graphs/query", filter, limit, skip, sort, fields)

    def execute_graph(
        self,
        graph_uri: str,
        input_data: Any,
        *,
        trace: bool = False,
        timeout: float = 60,
        node_timeout: Optional[float] = None,
    ) -> GraphResult:
        """Run a graph: its output, the run's id and, with `trace`, what each node took, got and gave.

        timeout: seconds for the whole run. node_timeout: seconds for each node, waiting for a replica included.
        GraphFailed, with the node at fault and the run's id, when a node fails or time runs out; ValidationFailed
        when the input does not fit the graph's schema.
        """
        body = given(graph_uri=graph_uri, timeout=timeout, node_timeout=node_timeout)
        body["input_data"] = input_data
        query = {"trace": True} if trace else None
        path = "/graph/execute_graph"
        reply = self._system.call("POST", path, query=query, json_body=body, patience=timeout)
        return GraphResult(reply["data"], reply["run_id"], reply.get("trace"))

    def get_graph_run(self, run_id: str) -> GraphRun:
        """A recorded run; NotFound when there is none."""
        return cast(GraphRun, self._data("GET", path_of("graph", "runs", run_id)))

    def query_graph_runs(
        self,
        filter: Optional[Filter] = None,
        *,
        limit: Optional[int] = None,
        skip: int = 0,
        sort: Names = None,
        fields: Names = None,
    ) -> Page[GraphRun]:
        """Recorded runs that match, as `query_policies`."""
        return self._query("/graph/runs/query", filter, limit, skip, sort, fields)
