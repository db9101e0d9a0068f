// Dumps, notifications and requests against the real kernel, in a throw-away namespace.

import CLinux
import Foundation
import Testing
import Wire

@testable import ControlPlane

@Suite struct KernelSocketTests {
    private func index(_ name: String, in namespace: NetworkNamespace) throws -> UInt32 {
        UInt32(try namespace.run { pe_interface_index(name) })
    }

    @Test func requestsDoWhatIproute2Shows() throws {
        guard let test = TestNamespace("nlreq") else { return }
        let namespace = try NetworkNamespace(test.name)
        let socket = try KernelSocket(in: namespace)
        let mac = try #require(MACAddress("02:00:00:00:00:01"))
        try socket.perform(.createBridge(name: "br1", mac: try #require(MACAddress("02:00:00:00:11:11")), group: 7))
        let bridge = try index("br1", in: namespace)
        #expect(test.shell("ip link show br1").contains("02:00:00:00:11:11"))
        #expect(test.shell("ip link show group 7").contains("br1"))
        #expect(try namespace.run { pe_tap_create_persistent("tap1") } == 0)
        let tap = try index("tap1", in: namespace)
        // A bridge without a port that has a carrier loses its neighbors again; a vxlan device has one.
        try socket.perform(
            .createVXLAN(
                name: "vx1", vni: try #require(VNI(77)), local: try #require(IPAddress("192.0.2.1")),
                port: 14789, bridge: bridge, group: 7))
        let vxlan = try index("vx1", in: namespace)
        let steps: [KernelRequest] = [
            .setUp(interface: vxlan, isUp: true),
            .setMaster(interface: tap, bridge: bridge), .setBridgePort(interface: tap, []),
            .disableAddressGeneration(interface: tap), .setMTU(interface: tap, mtu: 1400),
            .setMAC(interface: tap, mac: try #require(MACAddress("02:00:00:00:22:22"))),
            .setUp(interface: tap, isUp: true), .setUp(interface: bridge, isUp: true),
            .addFDB(interface: tap, mac: mac),
            .addNeighbor(interface: bridge, address: try #require(IPAddress("192.0.2.9")), mac: mac),
            .addNeighbor(interface: bridge, address: try #require(IPAddress("2001:db8::9")), mac: mac),
            .addAddress(interface: bridge, try #require(IPPrefix("192.0.2.1/24"))),
            .addAddress(interface: bridge, try #require(IPPrefix("2001:db8::1/64"))),
        ]
        #expect(socket.perform(steps) == steps.map { _ in nil })
        #expect(test.shell("bridge fdb show dev tap1").contains("\(mac) master br1 static"))
        let flags = test.shell("bridge -d link show dev tap1")
        for flag in ["learning off", "flood off", "mcast_flood off", "bcast_flood off"] { #expect(flags.contains(flag)) }
        let details = test.shell("ip -d link show tap1")
        #expect(details.contains("addrgenmode none") && details.contains("mtu 1400") && details.contains("02:00:00:00:22:22"))
        let neighbors = test.shell("ip neigh show dev br1 nud all")
        #expect(neighbors.contains("192.0.2.9 lladdr \(mac) PERMANENT"), "\(neighbors)")
        #expect(neighbors.contains("2001:db8::9 lladdr \(mac) PERMANENT"), "\(neighbors)")
        let addresses = test.shell("ip addr show br1")
        #expect(addresses.contains("192.0.2.1/24") && addresses.contains("2001:db8::1/64"))

        // Again: all of it is idempotent. Then gone.
        #expect(socket.perform(steps) == steps.map { _ in nil })
        let undo: [KernelRequest] = [
            .deleteFDB(interface: tap, mac: mac),
            .deleteNeighbor(interface: bridge, address: try #require(IPAddress("192.0.2.9"))),
            .deleteAddress(interface: bridge, try #require(IPPrefix("192.0.2.1/24"))),
            .deleteLink(interface: tap),
        ]
        #expect(socket.perform(undo) == undo.map { _ in nil })
        #expect(!test.shell("bridge fdb show").contains("\(mac)"))
        #expect(!test.shell("ip neigh show dev br1 nud all").contains("192.0.2.9"))
        #expect(!test.shell("ip addr show br1").contains("192.0.2.1"))
        try socket.perform(.deleteLinks(group: 7))
        #expect(!test.shell("ip -br link").contains("br1"))
    }

    @Test func failuresSayWhatWhereAndWhyAndStopNothing() throws {
        guard let test = TestNamespace("nlerr") else { return }
        let namespace = try NetworkNamespace(test.name)
        let socket = try KernelSocket(in: namespace)
        let mac = try #require(MACAddress("02:00:00:00:00:01"))
        let results = socket.perform([
            .addFDB(interface: 999, mac: mac),
            .createBridge(name: "br1", mac: mac, group: 0),
            .createBridge(name: "br1", mac: mac, group: 0),
            .createBridge(name: String(repeating: "n", count: 40), mac: mac, group: 0),
            .setUp(interface: 1, isUp: true),
        ])
        #expect(results.map { $0?.errno } == [ENODEV, nil, EEXIST, ERANGE, nil] || results.map { $0?.errno } == [ENODEV, nil, EEXIST, EINVAL, nil])
        let text = results[0].map { "\($0)" } ?? ""
        #expect(text.contains("add 02:00:00:00:00:01 to the FDB") && text.contains("ifindex 999"))
        #expect(text.contains("the device has gone"))
        #expect(throws: KernelError.self) { try socket.perform(.deleteLink(interface: 999)) }
    }

    @Test func thousandsOfRowsAreAddedAndDumped() throws {
        guard let test = TestNamespace("nlmany") else { return }
        let namespace = try NetworkNamespace(test.name)
        let socket = try KernelSocket(in: namespace)
        test.shell("ip link add br1 type bridge; ip tuntap add t1 mode tap; ip link set t1 master br1; ip link set t1 up; ip link set br1 up")
        let tap = try index("t1", in: namespace)
        let macs = (0..<20_000).map { MACAddress(bytes: [2, 0, 0, 1, UInt8($0 >> 8), UInt8($0 & 0xFF)]) }
        let start = ContinuousClock.now
        #expect(socket.perform(macs.map { .addFDB(interface: tap, mac: $0) }).allSatisfy { $0 == nil })
        let added = ContinuousClock.now
        let dump = try socket.dump(.fdb)
        print("20000 FDB rows: added in \(added - start), dumped in \(ContinuousClock.now - added)")
        #expect(dump.errors == [])
        let seen = dump.messages.compactMap { message -> MACAddress? in
            guard case .neighbor(let row) = message, row.interface == tap, row.state == .noARP else { return nil }
            return row.mac
        }
        #expect(Set(seen) == Set(macs))
    }

    @Test func dumpsShowDevicesAddressesNextHopsAndRoutes() throws {
        guard let test = TestNamespace("nldump") else { return }
        let namespace = try NetworkNamespace(test.name)
        test.shell(
            """
            ip link add br1 type bridge; ip link set br1 up; ip addr add 192.0.2.1/24 dev br1
            ip link add vx1 type vxlan id 77 local 192.0.2.1 dstport 4789 nolearning; ip link set vx1 master br1
            ip link set vx1 up; bridge fdb append 00:00:00:00:00:00 dev vx1 dst 192.0.2.2 self permanent
            ip nexthop add id 5 via 192.0.2.2 dev br1; ip nexthop add id 6 group 5
            ip route add 203.0.113.0/24 nhid 5 proto 186; ip route add blackhole 198.51.100.0/24
            ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev br1 nud permanent
            """)
        let socket = try KernelSocket(in: namespace)
        var all: [NetlinkMessage] = []
        for what in KernelDump.allCases {
            let dump = try socket.dump(what)
            #expect(dump.errors == [])
            all += dump.messages
            let raw = NetlinkDecoder.decode(try socket.rawDump(what))
            #expect(raw.errors == [] && raw.messages.count == dump.messages.count)
        }
        let bridge = try index("br1", in: namespace)
        let vxlan = try index("vx1", in: namespace)
        let links = all.compactMap { if case .link(let link) = $0, !link.isBridgeFamily { link } else { nil } }
        let device = try #require(links.first { $0.name == "vx1" })
        #expect(device.kind == .vxlan(vni: 77, local: IPAddress("192.0.2.1"), port: 4789, collectMetadata: false))
        #expect(device.master == bridge && device.isUp && device.vxlanLearning == false)
        #expect(device.bridgePort == [.learning, .flood, .multicastFlood, .broadcastFlood])
        let hops = all.compactMap { if case .nextHop(let hop) = $0 { hop } else { nil } }
        #expect(hops.first { $0.id == 5 }?.gateway == IPAddress("192.0.2.2"))
        #expect(hops.first { $0.id == 6 }?.members == [.init(id: 5, weight: 1)])
        let routes = all.compactMap { if case .route(let route) = $0 { route } else { nil } }
        #expect(routes.first { $0.prefix == IPPrefix("203.0.113.0/24") }?.nextHopID == 5)
        #expect(routes.first { $0.prefix == IPPrefix("198.51.100.0/24") }?.kind == .blackhole)
        let rows = all.compactMap { if case .neighbor(let row) = $0 { row } else { nil } }
        #expect(rows.contains { $0.interface == vxlan && $0.mac == .zero && $0.destination == IPAddress("192.0.2.2") && $0.flags == .`self` })
        #expect(rows.contains { $0.family == .ipv4 && $0.interface == bridge && $0.mac == MACAddress("02:00:00:00:00:02") })
        #expect(all.contains(.address(AddressMessage(isDelete: false, interface: bridge, prefix: try #require(IPPrefix("192.0.2.1/24"))))))
    }
}

@Suite struct KernelFeedTests {
    private func isEnd(_ event: ControlEvent) -> Bool { if case .kernelDumpEnded = event { true } else { false } }

    @Test func effectsBecomeRowsAndTheirNotificationsComeBack() throws {
        guard let test = TestNamespace("feed") else { return }
        let namespace = try NetworkNamespace(test.name)
        test.shell("ip link add br1 type bridge; ip tuntap add t1 mode tap; ip link set t1 master br1; ip link set t1 up; ip link set br1 up")
        let log = EventLog()
        let feed = try KernelFeed(in: namespace) { log.add($0) }
        defer { feed.stop() }
        let tap = UInt32(try namespace.run { pe_interface_index("t1") })
        let bridge = UInt32(try namespace.run { pe_interface_index("br1") })
        let mac = try #require(MACAddress("02:00:00:00:00:77"))
        feed.perform([.dumpKernel, .log(level: .info, "not the kernel's")])
        #expect(log.wait { $0.contains(where: isEnd) })
        guard case .kernelDumpBegan? = log.events.first else {
            Issue.record("the first event is not the dump's begin: \(log.events)")
            return
        }
        #expect(log.messages.contains { if case .link(let link) = $0 { link.name == "t1" } else { false } })
        log.clear()

        let address = try #require(IPAddress("192.0.2.5"))
        feed.perform([
            .addLocalMAC(interface: tap, mac: mac), .addLocalNeighbor(interface: bridge, address: address, mac: mac),
        ])
        #expect(log.wait { _ in
            log.messages.contains { if case .neighbor(let row) = $0 { row.mac == mac && row.family == .bridge && row.master == bridge && row.state == .noARP } else { false } }
                && log.messages.contains { if case .neighbor(let row) = $0 { row.destination == address && row.state == .permanent } else { false } }
        })
        log.clear()
        feed.perform([.deleteLocalMAC(interface: tap, mac: mac), .deleteLocalNeighbor(interface: bridge, address: address)])
        #expect(log.wait { _ in
            log.messages.contains { if case .neighbor(let row) = $0 { row.mac == mac && row.isDelete } else { false } }
        })
        #expect(!test.shell("bridge fdb show").contains("\(mac)"))
    }

    @Test func aFailedEffectComesBackAndDeletingTwiceIsNoFailure() throws {
        guard let test = TestNamespace("feedfail") else { return }
        let namespace = try NetworkNamespace(test.name)
        test.shell("ip link add br1 type bridge; ip tuntap add t1 mode tap; ip link set t1 master br1; ip link set t1 up")
        let log = EventLog()
        let feed = try KernelFeed(in: namespace) { log.add($0) }
        defer { feed.stop() }
        let tap = UInt32(try namespace.run { pe_interface_index("t1") })
        let mac = try #require(MACAddress("02:00:00:00:00:78"))
        let failing = ControlEffect.addLocalMAC(interface: 4000, mac: mac)
        feed.perform([.deleteLocalMAC(interface: tap, mac: mac), failing])
        #expect(log.wait { $0.contains { if case .kernelRequestFailed = $0 { true } else { false } } })
        let failures = log.events.compactMap { event -> (ControlEffect, Int32)? in
            if case .kernelRequestFailed(let effect, let errno) = event { (effect, errno) } else { nil }
        }
        #expect(failures.count == 1)
        #expect(failures.first?.0 == failing && failures.first?.1 == ENODEV)
    }

    @Test func aNeighborIsResolvedOnRequest() throws {
        guard let test = TestNamespace("feedarp") else { return }
        let namespace = try NetworkNamespace(test.name)
        let far = try #require(TestNamespace("feedarpfar"))
        test.shell("ip link add v0 type veth peer name v1 netns \(far.name); ip addr add 192.0.2.1/24 dev v0; ip link set v0 up")
        far.shell("ip link set v1 address 02:00:00:00:00:99; ip addr add 192.0.2.2/24 dev v1; ip link set v1 up")
        let log = EventLog()
        let feed = try KernelFeed(in: namespace) { log.add($0) }
        defer { feed.stop() }
        let device = UInt32(try namespace.run { pe_interface_index("v0") })
        feed.perform([.resolveNeighbor(interface: device, address: try #require(IPAddress("192.0.2.2")))])
        #expect(log.wait { _ in
            log.messages.contains { if case .neighbor(let row) = $0 { row.mac == MACAddress("02:00:00:00:00:99") && !row.state.isDisjoint(with: .valid) } else { false } }
        })
    }

    @Test func lostNotificationsAreReported() throws {
        guard let test = TestNamespace("feedlost") else { return }
        let namespace = try NetworkNamespace(test.name)
        test.shell("ip link add br1 type bridge; ip tuntap add t1 mode tap; ip link set t1 master br1; ip link set t1 up; ip link set br1 up")
        let tap = UInt32(try namespace.run { pe_interface_index("t1") })
        let log = EventLog()
        let gate = NSLock()
        gate.lock()
        // The consumer stands still while more rows come and go than any buffer holds.
        let feed = try KernelFeed(in: namespace, receiveBytes: 1 << 16) { event in
            gate.lock()
            gate.unlock()
            log.add(event)
        }
        defer { feed.stop() }
        let socket = try KernelSocket(in: namespace)
        let macs = (0..<4000).map { MACAddress(bytes: [2, 0, 0, 2, UInt8($0 >> 8), UInt8($0 & 0xFF)]) }
        for _ in 0..<2 {
            _ = socket.perform(macs.map { .addFDB(interface: tap, mac: $0) })
            _ = socket.perform(macs.map { .deleteFDB(interface: tap, mac: $0) })
        }
        gate.unlock()
        #expect(log.wait(20) { $0.contains { if case .kernelOverrun = $0 { true } else { false } } })
        // The feed goes on: a dump and what comes after it are delivered.
        feed.perform([.dumpKernel])
        #expect(log.wait(20) { $0.contains(where: isEnd) })
    }

    @Test func stopEndsTheThread() throws {
        let namespace = try NetworkNamespace(nil)
        guard let test = TestNamespace("feedstop") else { return }
        _ = namespace
        let log = EventLog()
        let feed = try KernelFeed(in: try NetworkNamespace(test.name)) { log.add($0) }
        feed.stop()
        test.shell("ip link add br9 type bridge")
        Thread.sleep(forTimeInterval: 0.1)
        #expect(log.events.isEmpty)
    }
}
