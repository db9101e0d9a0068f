// What a route's content led to the last time: the next route with the same content leads there too.

import Tables

/// Values by content (``RouteRows``) and VRF, one for each content.
///
/// Only what does not depend on the prefix or on what the prefix led to before is kept: a hop, or the
/// first group of a source. It is forgotten when next hops, interfaces or sources change, and when
/// hops or groups go.
struct RouteMemory {
    private struct Place {
        var serial: UInt64 = 0
        var epoch: UInt32 = 0
        var vrf: UInt16 = 0
        var value = RouteValue.blackhole
    }
    private var places: [Place] = []
    private var epoch: UInt32 = 1
    private static let limit = 1 << 20

    func value(_ row: UInt32, _ serial: UInt64, _ vrf: UInt16, old: RouteValue?) -> RouteValue? {
        guard Int(row) < places.count else { return nil }
        let place = places[Int(row)]
        guard place.serial == serial, place.epoch == epoch, place.vrf == vrf else { return nil }
        // A route that had another value may need a group that keeps its flows.
        return place.value.isHop || old == nil || old == place.value ? place.value : nil
    }
    mutating func note(_ row: UInt32, _ serial: UInt64, _ vrf: UInt16, _ value: RouteValue, old: RouteValue?) {
        guard value.isHop || value.isGroup && old == nil, Int(row) < Self.limit else { return }
        while places.count <= Int(row) { places.append(Place()) }
        places[Int(row)] = Place(serial: serial, epoch: epoch, vrf: vrf, value: value)
    }
    mutating func forgetAll() {
        epoch &+= 1
        if epoch == 0 {
            places.removeAll()
            epoch = 1
        }
    }
}
