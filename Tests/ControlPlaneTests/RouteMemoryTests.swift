// What a route's content led to is taken for the next route with it, and never for longer than it holds.

import Tables
import Testing
import Wire

@testable import ControlPlane

@Suite("Memory of routes")
struct RouteMemoryTests {
    private let hop = RouteValue.hop(3)
    private let group = RouteValue.group(4)

    @Test("a value is that of its content and VRF, until all is forgotten")
    func lookUp() {
        var memory = RouteMemory()
        #expect(memory.value(5, 1, 1, old: nil) == nil)
        memory.note(5, 1, 1, hop, old: nil)
        #expect(memory.value(5, 1, 1, old: nil) == hop)
        #expect(memory.value(4, 1, 1, old: nil) == nil, "another row")
        #expect(memory.value(5, 2, 1, old: nil) == nil, "another content in the same row")
        #expect(memory.value(5, 1, 2, old: nil) == nil, "another VRF")
        memory.forgetAll()
        #expect(memory.value(5, 1, 1, old: nil) == nil)
        memory.note(5, 1, 1, hop, old: nil)
        #expect(memory.value(5, 1, 1, old: nil) == hop)
    }

    @Test("a group is for routes without a value before, or with this one: others may have to keep their flows")
    func groups() {
        var memory = RouteMemory()
        memory.note(5, 1, 1, group, old: hop)
        #expect(memory.value(5, 1, 1, old: nil) == nil)
        memory.note(5, 1, 1, group, old: nil)
        #expect(memory.value(5, 1, 1, old: nil) == group)
        #expect(memory.value(5, 1, 1, old: group) == group)
        #expect(memory.value(5, 1, 1, old: hop) == nil)
        memory.note(5, 1, 1, hop, old: group)
        #expect(memory.value(5, 1, 1, old: group) == hop, "a single hop is the same for all")
        memory.note(6, 1, 1, .blackhole, old: nil)
        #expect(memory.value(6, 1, 1, old: nil) == nil)
    }

    @Test("a row beyond the limit is not remembered, and takes no memory")
    func limit() {
        var memory = RouteMemory()
        for row in [1 << 20, UInt32.max] {
            memory.note(row, 1, 1, hop, old: nil)
            #expect(memory.value(row, 1, 1, old: nil) == nil)
        }
    }

    @Test("a route after its next-hop object changed takes the object's new way")
    func changedObject() throws {
        let rig = try RouteGroupTests.makeRig()
        rig.frame(RouteGroupTests.route("10.9.0.0/16", id: 1))
        #expect(rig.route("red", "10.9.0.0/16") == RouteGroupTests.way(0))
        rig.frame(Message.nextHop(1, RouteGroupTests.vtep(2), 7), RouteGroupTests.route("10.8.0.0/16", id: 1))
        #expect(rig.route("red", "10.8.0.0/16") == RouteGroupTests.way(2))
        #expect(rig.route("red", "10.9.0.0/16") == RouteGroupTests.way(2))
        #expect(rig.compiler.routeFaults(rig.state) == [])
    }

    /// The content lives on in a table that is no VRF's.
    @Test("a hop or a group that went with its last route is made anew for the next one", arguments: [1, 2])
    func dropped(count: Int) throws {
        let rig = try RouteGroupTests.makeRig()
        let hops = (0..<count).map { Message.hop(RouteGroupTests.vtep($0), 7, isOnlink: true) }
        func route(_ table: UInt32, isDelete: Bool = false) -> NetlinkMessage {
            Message.route("10.9.0.0/16", table: table, hops: hops, isDelete: isDelete)
        }
        rig.frame(route(999), route(1001))
        let text = rig.route("red", "10.9.0.0/16")
        #expect(text?.contains(RouteGroupTests.way(0)) == true)
        rig.frame(route(1001, isDelete: true))
        #expect(rig.tables.hopCount == 0 && rig.tables.groupCount == 0)
        rig.frame(route(1001))
        #expect(rig.route("red", "10.9.0.0/16") == text)
        #expect(rig.compiler.routeFaults(rig.state) == [])
    }

    @Test("a group that went while its members stayed is made anew for the next route")
    func droppedGroup() throws {
        let rig = try RouteGroupTests.makeRig()
        let hops = (0..<2).map { Message.hop(RouteGroupTests.vtep($0), 7, isOnlink: true) }
        func route(_ prefix: String = "10.9.0.0/16", _ table: UInt32 = 1001, isDelete: Bool = false) -> NetlinkMessage {
            Message.route(prefix, table: table, hops: hops, isDelete: isDelete)
        }
        rig.frame(
            route("10.9.0.0/16", 999), route(), Message.route("10.5.0.0/16", table: 1001, hops: [hops[0]]),
            Message.route("10.6.0.0/16", table: 1001, hops: [hops[1]]))
        let text = rig.route("red", "10.9.0.0/16")
        #expect(text?.hasPrefix("group of") == true)
        rig.frame(route(isDelete: true))
        #expect(rig.tables.hopCount == 2 && rig.tables.groupCount == 0)
        rig.frame(route())
        #expect(rig.route("red", "10.9.0.0/16") == text)
        #expect(rig.compiler.routeFaults(rig.state) == [])
    }
}
