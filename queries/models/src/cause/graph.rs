//! A window as a graph: its services by name and the calls from and to each, found without looking through all rows.

use std::collections::HashMap;

use super::figures::{Edge, Service, Window};

/// The rows of a window by who they are of.
#[derive(Debug)]
pub(super) struct Graph<'a> {
    pub(super) window: &'a Window,
    ids: HashMap<&'a str, usize>,
    nodes: Vec<Node<'a>>,
}

/// Whoever serves or calls.
#[derive(Debug, Default)]
struct Node<'a> {
    /// `None` where nothing is known but the calls.
    service: Option<&'a Service>,
    calls: Vec<&'a Edge>,
    answers: Vec<&'a Edge>,
    /// Nodes of the clients of `answers`.
    clients: Vec<usize>,
}

// === impl Graph ===

impl<'a> Graph<'a> {
    pub(super) fn of(window: &'a Window) -> Self {
        let mut graph = Self { window, ids: HashMap::new(), nodes: Vec::new() };
        for service in &window.services {
            // The first row of a name counts, as in `Window::service`.
            let _ = graph.entry(&service.name).1.service.get_or_insert(service);
        }
        for edge in &window.edges {
            let (client, node) = graph.entry(&edge.client);
            node.calls.push(edge);
            let (_, node) = graph.entry(&edge.server);
            node.answers.push(edge);
            node.clients.push(client);
        }
        graph
    }

    fn entry(&mut self, name: &'a str) -> (usize, &mut Node<'a>) {
        let id = *self.ids.entry(name).or_insert(self.nodes.len());
        if id == self.nodes.len() {
            self.nodes.push(Node::default());
        }
        (id, &mut self.nodes[id])
    }

    fn node(&self, name: &str) -> Option<&Node<'a>> {
        self.nodes.get(*self.ids.get(name)?)
    }

    /// The row of a service; `None` for a server that nobody instruments.
    pub(super) fn service(&self, name: &str) -> Option<&'a Service> {
        self.node(name)?.service
    }

    /// The calls that a service answers.
    pub(super) fn calls_to(&self, server: &str) -> &[&'a Edge] {
        self.node(server).map(|node| node.answers.as_slice()).unwrap_or_default()
    }

    /// Mean time per request that a service spent itself, as [`Window::self_time`].
    pub(super) fn self_time(&self, service: &Service) -> Option<f64> {
        service.own_time(self.node(&service.name).into_iter().flat_map(|node| node.calls.iter().copied()))
    }

    /// Seconds that all requests of a service took; `None` when neither their durations nor its own work are known.
    pub(super) fn whole_time(&self, service: &Service) -> Option<f64> {
        Some(service.requests * service.sojourn.or_else(|| self.self_time(service))?)
    }

    /// The services of the window from which there are calls to `server`, directly or through others.
    pub(super) fn callers(&self, server: &str) -> impl Iterator<Item = &'a Service> + '_ {
        let mut reached = vec![false; self.nodes.len()];
        let mut open: Vec<usize> = self.ids.get(server).copied().into_iter().collect();
        while let Some(node) = open.pop().and_then(|id| self.nodes.get(id)) {
            for client in &node.clients {
                if !std::mem::replace(&mut reached[*client], true) {
                    open.push(*client);
                }
            }
        }
        self.nodes.iter().zip(reached).filter(|(_, is_reached)| *is_reached).filter_map(|(node, _)| node.service)
    }
}
