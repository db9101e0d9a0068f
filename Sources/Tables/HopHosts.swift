// Which next hops stand for the same host, so that they follow its MAC from circuit to circuit.

/// The hops of every (bridge domain, MAC), each in a ring of its own. The writer's alone.
struct HopHosts {
    /// FDB key to one of the host's hops.
    private var hosts: [UInt64: UInt32] = [:]
    /// By hop: its neighbours in the ring. Grows with the highest hop.
    private var links: [(previous: UInt32, next: UInt32)] = []

    /// Adds a hop that no ring holds.
    mutating func add(_ hop: UInt32, to key: UInt64) {
        while links.count <= Int(hop) {
            let own = UInt32(links.count)
            links.append((own, own))
        }
        links[Int(hop)] = (hop, hop)
        guard let first = hosts[key] else {
            hosts[key] = hop
            return
        }
        let last = links[Int(first)].previous
        links[Int(hop)] = (last, first)
        links[Int(last)].next = hop
        links[Int(first)].previous = hop
    }

    /// Takes a hop out of the ring of `key`, in which it is.
    mutating func remove(_ hop: UInt32, from key: UInt64) {
        let (previous, next) = links[Int(hop)]
        links[Int(previous)].next = next
        links[Int(next)].previous = previous
        guard hosts[key] == hop else { return }
        hosts[key] = next == hop ? nil : next
    }

    /// Visits the hops of a host.
    func forEach(of key: UInt64, _ body: (UInt32) -> Void) {
        guard !hosts.isEmpty, let first = hosts[key] else { return }
        var hop = first
        repeat {
            body(hop)
            hop = links[Int(hop)].next
        } while hop != first
    }
}
