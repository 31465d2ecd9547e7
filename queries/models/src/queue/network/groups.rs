//! Which services of a call graph call each other in circles (strongly connected components, Tarjan 1972).

/// What is not numbered yet.
const NEW: usize = usize::MAX;

/// A search that goes on.
struct Search<'a> {
    outgoing: &'a [Vec<(usize, f64)>],
    /// In which order services were met.
    numbers: Vec<usize>,
    /// The earliest that is still open and that each leads to.
    lowest: Vec<usize>,
    is_open: Vec<bool>,
    open: Vec<usize>,
    met: usize,
    groups: Vec<Vec<usize>>,
}

/// Groups of services from each of which calls lead to each other one; most are of one service. Callers come before whom they call.
pub(super) fn groups(outgoing: &[Vec<(usize, f64)>]) -> Vec<Vec<usize>> {
    let services = outgoing.len();
    let (numbers, lowest, is_open) = (vec![NEW; services], vec![NEW; services], vec![false; services]);
    let mut search = Search { outgoing, numbers, lowest, is_open, open: Vec::new(), met: 0, groups: Vec::new() };
    for service in 0..services {
        if search.numbers[service] == NEW {
            search.follow(service);
        }
    }
    search.groups.reverse();
    search.groups
}

// === impl Search ===

impl Search<'_> {
    /// Follows all calls from a service on; with a stack of its own, because graphs may be deeper than ours.
    fn follow(&mut self, service: usize) {
        let mut path = vec![(service, 0)];
        self.meet(service);
        while let Some((service, next)) = path.last_mut() {
            let (service, call) = (*service, self.outgoing[*service].get(*next));
            *next += 1;
            match call {
                Some((to, _)) if self.numbers[*to] == NEW => {
                    self.meet(*to);
                    path.push((*to, 0));
                }
                Some((to, _)) if self.is_open[*to] => self.lowest[service] = self.lowest[service].min(self.numbers[*to]),
                Some(_) => {}
                None => {
                    let _ = path.pop();
                    if let Some((caller, _)) = path.last() {
                        self.lowest[*caller] = self.lowest[*caller].min(self.lowest[service]);
                    }
                    self.leave(service);
                }
            }
        }
    }

    fn meet(&mut self, service: usize) {
        (self.numbers[service], self.lowest[service], self.is_open[service]) = (self.met, self.met, true);
        self.met += 1;
        self.open.push(service);
    }

    /// Closes the group of a service that leads to nothing earlier.
    fn leave(&mut self, service: usize) {
        if self.lowest[service] == self.numbers[service] {
            let begin = self.open.iter().rposition(|open| *open == service).unwrap_or_default();
            let mut group = self.open.split_off(begin);
            group.iter().for_each(|member| self.is_open[*member] = false);
            group.sort_unstable();
            self.groups.push(group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Guarantees: circles are groups, also through each other, and callers come before whom they call, however deep a graph is.
    #[test]
    fn circles_are_groups() {
        let graph = |calls: &[(usize, usize)], services: usize| {
            let mut outgoing = vec![Vec::new(); services];
            calls.iter().for_each(|(from, to)| outgoing[*from].push((*to, 1.0)));
            groups(&outgoing)
        };
        assert_eq!(graph(&[(0, 1), (1, 2), (2, 1), (2, 3), (4, 0), (3, 5), (5, 3)], 6), [vec![4], vec![0], vec![1, 2], vec![3, 5]]);
        assert_eq!(graph(&[(0, 1), (1, 0), (1, 2), (2, 1), (3, 3)], 4), [vec![3], vec![0, 1, 2]]);
        assert_eq!(graph(&[], 2).len(), 2);
        let chain: Vec<(usize, usize)> = (0..50_000).map(|service| (service + 1, service)).collect();
        let order = graph(&chain, 50_001);
        assert!(order.len() == 50_001 && order[0] == [50_000] && order[50_000] == [0]);
    }
}
