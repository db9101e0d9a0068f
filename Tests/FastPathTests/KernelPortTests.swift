// Kernel ports over real veth pairs and TAPs, in network namespaces of their own.

import CDPDK
import CLinux
import Glibc
import Synchronization
import TestSupport
import Testing
import Wire

@testable import FastPath

/// Everything that opens ports, one after the other: ethdev ids, CPU time and namespaces are
/// shared.
@Suite("Ports", .serialized)
struct KernelAndDevicePorts {}

/// What ports said, in order.
final class EventLog: Sendable {
    private let events = Mutex<[PortEvent]>([])
    var all: [PortEvent] { events.withLock { $0 } }
    var append: @Sendable (PortEvent) -> Void {
        { event in self.events.withLock { $0.append(event) } }
    }
}

/// Two hosts, each on a veth pair with default offloads whose other end is in the middle.
struct TwoHosts {
    let namespaces: Namespaces
    let a: String, b: String, middle: String

    init(_ name: String, mtu: Int = 1500) throws {
        namespaces = Namespaces("pe-ports-\(name)")
        a = try namespaces.make("a")
        b = try namespaces.make("b")
        middle = try namespaces.make("m")
        for (host, number) in [(a, 1), (b, 2)] {
            try Namespaces.ip(
                middle,
                [
                    "link add m\(number) mtu \(mtu) type veth peer name eth0 mtu \(mtu) netns \(host)",
                    "link set m\(number) up",
                ]
            )
            try Namespaces.ip(
                host,
                [
                    "link set eth0 up", "addr add 10.7.0.\(number)/24 dev eth0",
                    "addr add fd07::\(number)/64 dev eth0 nodad",
                ]
            )
        }
    }

    func definition(_ number: Int) -> PortDefinition {
        var definition = PortDefinition(
            name: "p\(number)",
            source: .packetSocket(device: "m\(number)")
        )
        definition.namespace = Namespaces.path(middle)
        return definition
    }
}

/// Whether every frame read was delivered or dropped for a reason.
func isAccounted(_ c: PortCounters) -> Bool {
    c[.rxFrames] - c[.rxLarge] + c[.rxSegments] == c[.rxDelivered] + c.rxDropped
}

extension KernelAndDevicePorts {
    @Suite("Kernel ports", .enabled(if: geteuid() == 0, "needs root: network namespaces"))
    struct KernelPortTests {
        @Test(
            "TCP between hosts with default offloads arrives intact",
            arguments: ["10.7.0", "fd07:"]
        )
        func transfersArrive(network: String) throws {
            let hosts = try TwoHosts("tcp")
            let bench = try PortBench()
            let free = pe_pool_available(bench.environment.packets)
            try bench.registry.add(hosts.definition(1), at: 1)
            try bench.registry.add(hosts.definition(2), at: 2)
            let worker = TestForwarder(bench.io, peers: [(1, 2)])
            let separator = network.contains(":") ? ":" : "."
            for (client, server, last) in [(hosts.a, hosts.b, 2), (hosts.b, hosts.a, 1)] {
                let (sent, received) = transfer(
                    16 << 20,
                    from: client,
                    to: server,
                    address: network + separator + String(last),
                    port: 5001
                )
                #expect(sent == TransferResult(byteCount: 16 << 20))
                #expect(received == sent)
            }
            for index in [UInt16(1), 2] {
                let counters = try #require(bench.registry.status(index)).counters
                #expect(isAccounted(counters), "\(counters)")
                #expect(
                    counters[.rxLarge] > 0,
                    "the veth sent nothing large: the test tests nothing"
                )
                #expect(counters[.rxDropBadHeader] + counters[.rxDropUnsupportedOffload] == 0)
                #expect(counters[.txDropError] + counters[.txDropTooBig] == 0)
            }
            worker.stop()
            bench.close()
            // Other tests borrow from this pool meanwhile.
            #expect(eventually(30) { pe_pool_available(bench.environment.packets) + 64 >= free })
        }

        @Test("pings of every size arrive", arguments: ["10.7.0.2", "fd07::2"])
        func smallTraffic(address: String) throws {
            let hosts = try TwoHosts("ping")
            let bench = try PortBench()
            let worker = TestForwarder(bench.io, peers: [(1, 2)])
            defer {
                worker.stop()
                bench.close()
            }
            try bench.registry.add(hosts.definition(1), at: 1)
            try bench.registry.add(hosts.definition(2), at: 2)
            for size in [0, 1, 100, 1452] {
                let said = try run(
                    "ip",
                    "netns",
                    "exec",
                    hosts.a,
                    "ping",
                    "-M",
                    "do",
                    "-c",
                    "3",
                    "-i",
                    "0.01",
                    "-W",
                    "2",
                    "-s",
                    String(size),
                    address
                )
                #expect(said.contains(" 0% packet loss"), "\(size): \(said)")
            }
        }

        @Test(
            "tags that the kernel takes off are put back, and go out as they are",
            arguments: [
                [0x8100, 0x6014], [0x88a8, 0x0064], [0x88a8, 0x0064, 0x8100, 0x2014],
            ]
        )
        func tagsAreKept(tags: [Int]) throws {
            let hosts = try TwoHosts("tags")
            let bench = try PortBench()
            defer { bench.close() }
            try bench.registry.add(hosts.definition(1), at: 1)
            let host = try #require(RawHost(hosts.a, "eth0"))
            defer { host.close() }
            let words = tags + [0x88b5]
            let frame =
                [2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4]
                + words.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] } + (0..<50).map { UInt8($0) }
            host.send(frame)
            var received = try #require(pe_mbuf_alloc(bench.environment.packets))
            pe_mbuf_free(received)
            // The host's kernel may say something of its own meanwhile.
            let isThere = eventually {
                while pe_ring_dequeue_burst(bench.io.rxRing, &received, 1) == 1 {
                    if contents(received) == frame { return true }
                    pe_mbuf_free(received)
                }
                return false
            }
            try #require(isThere)
            received.pointee.port = 1
            #expect(pe_ring_enqueue_burst(bench.io.txRing, &received, 1) == 1)
            pe_doorbell_ring(bench.io.hostDoorbell)
            #expect(eventually { host.receive().contains(frame) })
        }

        @Test("a kernel VTEP's large frames are cut inside their tunnel", arguments: [false, true])
        func tunnelledSegments(isIPv6: Bool) throws {
            let hosts = try TwoHosts("vx", mtu: 1600)
            let bench = try PortBench()
            defer { bench.close() }
            for (host, number, other) in [(hosts.a, 1, 2), (hosts.b, 2, 1)] {
                let ends =
                    isIPv6
                    ? "local fd07::\(number) remote fd07::\(other)"
                    : "local 10.7.0.\(number) remote 10.7.0.\(other)"
                try Namespaces.ip(
                    host,
                    [
                        "link add vx type vxlan id 100 dstport 4789 \(ends) dev eth0",
                        "link set vx mtu 1500 up", "addr add 10.99.0.\(number)/24 dev vx",
                        "addr add fd99::\(number)/64 dev vx nodad",
                    ]
                )
            }
            for number in 1...2 {
                try bench.registry.add(
                    with(hosts.definition(number)) { $0.mtu = 1600 },
                    at: UInt16(number)
                )
            }
            let worker = TestForwarder(bench.io, peers: [(1, 2)])
            defer { worker.stop() }
            for address in ["10.99.0.2", "fd99::2"] {
                let (sent, received) = transfer(
                    8 << 20,
                    from: hosts.a,
                    to: hosts.b,
                    address: address,
                    port: 5003
                )
                #expect(
                    received == sent && received.byteCount == 8 << 20,
                    "\(address) \(sent) \(received)"
                )
            }
            let counters = try #require(bench.registry.status(1)).counters
            #expect(counters[.rxLarge] > 0, "\(counters)")
            #expect(
                counters[.rxDropUnsupportedOffload] + counters[.rxDropBadHeader] == 0,
                "\(counters)"
            )
        }

        @Test("a TAP in another namespace is a host like any other, and has what was configured")
        func tapPort() throws {
            let hosts = try TwoHosts("tap")
            let bench = try PortBench()
            defer { bench.close() }
            let guest = try hosts.namespaces.make("t")
            var definition = PortDefinition(name: "t", source: .tap(name: "tap0"))
            definition.namespace = Namespaces.path(guest)
            definition.mac = MACAddress("02:00:00:00:00:77")
            definition.mtu = 1400
            definition.addresses = [IPPrefix("10.7.0.7/24"), IPPrefix("fd07::7/64")].compactMap {
                $0
            }
            let status = try bench.registry.add(definition, at: 7)
            #expect(status.mac == definition.mac)
            try bench.registry.add(hosts.definition(2), at: 2)
            let worker = TestForwarder(bench.io, peers: [(7, 2)])
            defer { worker.stop() }
            let link = try run("ip", "-n", guest, "addr", "show", "tap0")
            for expected in ["02:00:00:00:00:77", "mtu 1400", "10.7.0.7/24", "fd07::7/64", "UP"] {
                #expect(link.contains(expected), "\(link)")
            }
            for (client, server, address) in [
                (guest, hosts.b, "10.7.0.2"), (hosts.b, guest, "10.7.0.7"),
                (hosts.b, guest, "fd07::7"),
            ] {
                let (sent, received) = transfer(
                    4 << 20,
                    from: client,
                    to: server,
                    address: address,
                    port: 5004
                )
                #expect(
                    received == sent && received.byteCount == 4 << 20,
                    "\(address) \(sent) \(received)"
                )
            }
        }

        @Test("frames of an exception TAP come on the exception ring of its parent's worker")
        func exceptionRing() throws {
            let namespaces = Namespaces("pe-ports-exc")
            let guest = try namespaces.make("t")
            let bench = try PortBench()
            defer { bench.close() }
            var definition = PortDefinition(name: "t", source: .tap(name: "tap0"))
            definition.namespace = Namespaces.path(guest)
            definition.exceptionOf = 3
            definition.addresses = [try #require(IPPrefix("10.7.0.7/24"))]
            try bench.registry.add(definition, at: 1003)
            _ = try? run("ip", "netns", "exec", guest, "ping", "-c", "1", "-W", "0.1", "10.7.0.8")
            #expect(eventually { pe_ring_count(bench.io.exceptionRing) > 0 })
            #expect(pe_ring_count(bench.io.rxRing) == 0)
            var frames = [UnsafeMutablePointer<pe_mbuf>](
                repeating: try #require(pe_mbuf_alloc(bench.environment.packets)),
                count: 32
            )
            pe_mbuf_free(frames[0])
            let count = Int(pe_ring_dequeue_burst(bench.io.exceptionRing, &frames, 32))
            #expect(frames[..<count].allSatisfy { $0.pointee.port == 1003 })
            pe_mbuf_free_bulk(&frames, UInt32(count))
        }

        @Test(
            "the kernel's own stack does not answer what a shielded port reads",
            arguments: [true, false]
        )
        func shield(isShielded: Bool) throws {
            let hosts = try TwoHosts("shield\(isShielded ? 1 : 0)")
            try Namespaces.ip(hosts.middle, ["addr add 10.7.0.100/24 dev m1"])
            let bench = try PortBench()
            let worker = TestForwarder(bench.io)
            defer {
                worker.stop()
                bench.close()
            }
            try bench.registry.add(
                with(hosts.definition(1)) { $0.shieldsKernel = isShielded },
                at: 1
            )
            let answered =
                (try? run(
                    "ip",
                    "netns",
                    "exec",
                    hosts.a,
                    "ping",
                    "-c",
                    "1",
                    "-W",
                    "1",
                    "10.7.0.100"
                )) != nil
            #expect(answered == !isShielded)
            #expect(eventually { bench.registry.status(1)?.counters[.rxDelivered] ?? 0 > 0 })
            try bench.registry.remove(1)
            #expect(
                (try? run(
                    "ip",
                    "netns",
                    "exec",
                    hosts.a,
                    "ping",
                    "-c",
                    "1",
                    "-W",
                    "2",
                    "10.7.0.100"
                )) != nil
            )
        }
    }
}

func contents(_ frame: UnsafeMutablePointer<pe_mbuf>) -> [UInt8] {
    Array(
        UnsafeBufferPointer(
            start: frame.pointee.buf_addr + Int(frame.pointee.data_off),
            count: Int(frame.pointee.data_len)
        )
    )
}

/// A packet socket inside a host's namespace that sends and receives bytes as they are on the wire.
final class RawHost {
    private let fd: Int32
    private let batch: OpaquePointer
    private let frame: UnsafeMutablePointer<pe_rx_frame>
    private let memory: UnsafeMutablePointer<UInt8>

    init?(_ namespace: String, _ device: String) {
        let opened = try? onThread(in: Namespaces.path(namespace), port: device) { () -> Int32 in
            let fd = pe_packet_open()
            let index = pe_interface_index(device)
            guard fd >= 0, pe_packet_set_vnet_header(fd) == 0, pe_packet_set_auxdata(fd) == 0,
                pe_packet_ignore_outgoing(fd) == 0, pe_packet_join(fd, index, 1) == 0,
                pe_packet_bind(fd, index) == 0
            else { return -1 }
            return fd
        }
        guard let opened, opened >= 0, let batch = pe_io_batch_create() else { return nil }
        fd = opened
        self.batch = batch
        memory = .allocate(capacity: 4096)
        frame = .allocate(capacity: 1)
        memset(frame, 0, MemoryLayout<pe_rx_frame>.size)
    }
    func close() {
        Glibc.close(fd)
        pe_io_batch_free(batch)
    }

    func send(_ bytes: [UInt8]) {
        memory.update(from: bytes, count: bytes.count)
        pe_io_batch_vector(batch, 0)[1] = iovec(iov_base: memory, iov_len: bytes.count)
        pe_io_batch_set_count(batch, 0, 1)
        #expect(pe_packet_send(fd, batch, 0, 1) == 1)
    }

    /// Everything that has arrived, tags in their place.
    func receive() -> [[UInt8]] {
        var result: [[UInt8]] = []
        frame.pointee.head = memory
        frame.pointee.head_room = 4096
        while pe_packet_receive(fd, batch, frame, 1) == 1 {
            var bytes = Array(UnsafeBufferPointer(start: memory, count: Int(frame.pointee.length)))
            if frame.pointee.has_vlan != 0 {
                let tag = [frame.pointee.vlan_tpid, frame.pointee.vlan_tci]
                bytes.insert(
                    contentsOf: tag.flatMap { [UInt8($0 >> 8), UInt8($0 & 0xff)] },
                    at: 12
                )
            }
            result.append(bytes)
        }
        return result
    }
}
