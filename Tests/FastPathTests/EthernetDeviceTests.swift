// Ethdev ports in memory: probing, configuring, moving frames, coming and going under a running
// worker.

import CDPDK
import CLinux
import Glibc
import TestSupport
import Testing
import Wire

@testable import FastPath

/// Rings, registry and a worker's interface over the shared environment.
struct PortBench {
    let environment = TestEnvironment.shared
    let hostIO: HostIO
    let registry: PortRegistry
    var io: WorkerIO { registry.workerIO(0) }

    init(capacity: Int = 2048, observer: @escaping @Sendable (PortEvent) -> Void = { _ in }) throws
    {
        hostIO = try HostIO(environment: environment, portCapacity: capacity)
        registry = PortRegistry(environment: environment, hostIO: hostIO, observer: observer)
    }
    func close() {
        registry.close()
        hostIO.stop()
    }
}

extension KernelAndDevicePorts {
    @Suite("Ethdev ports")
    struct EthernetDeviceTests {
        @Test("null and any vdev string become ports")
        func memoryDevices() throws {
            let bench = try PortBench()
            defer { bench.close() }
            let sources: [(String, String)] = [
                ("null", ""), ("null", "size=100"), ("vdev", "net_null_pe99,copy=1"),
            ]
            for (index, (driver, device)) in sources.enumerated() {
                let text = try #require(
                    PortDefinition.deviceString(
                        driver: driver,
                        device: device,
                        index: UInt16(index)
                    )
                )
                let status = try bench.registry.add(
                    PortDefinition(name: "p\(index)", source: .device(text)),
                    at: UInt16(index)
                )
                #expect(status.driver == "net_null")
                #expect(bench.io.port(UInt16(index)).isEthdev)
                #expect(bench.io.port(UInt16(index)).mtu == 1500)
            }
            #expect(bench.io.pollList().count == 3)
            bench.io.offline()
        }

        @Test("frames written to a pcap port are in the file, chained buffers too")
        func pcapPort() throws {
            let bench = try PortBench()
            defer { bench.close() }
            let capture = "/tmp/pe-dp-test-\(getpid())-tx.pcap"
            defer { unlink(capture) }
            let definition = PortDefinition(
                name: "cap",
                source: .device("net_pcap_pe5,tx_pcap=\(capture)")
            )
            try bench.registry.add(definition, at: 5)
            let port = bench.io.port(5)
            var frame = try #require(pe_mbuf_alloc(bench.environment.packets))
            fill(frame, [UInt8](repeating: 0xab, count: 60))
            #expect(pe_eth_tx_burst(port.ethdev, 0, &frame, 1) == 1)
            if port.supportsMultiSegment {
                var head = try #require(pe_mbuf_alloc(bench.environment.packets))
                let tail = try #require(pe_mbuf_alloc(bench.environment.packets))
                fill(head, [UInt8](repeating: 1, count: 50))
                fill(tail, [UInt8](repeating: 2, count: 70))
                #expect(pe_mbuf_chain(head, tail) == 0)
                #expect(pe_eth_tx_burst(port.ethdev, 0, &head, 1) == 1)
            }
            try bench.registry.remove(5)
            let bytes = try fileBytes(capture)
            #expect(bytes.count == 24 + 16 + 60 + (port.supportsMultiSegment ? 16 + 120 : 0))
            #expect(bench.io.port(5) == .none)
        }

        @Test("frames cross a pair of ring ports in order, chained or not")
        func ringPorts() throws {
            let bench = try PortBench()
            defer { bench.close() }
            let (a, b) = try (ring("a"), ring("b"))
            defer { pe_ring_free(a); pe_ring_free(b) }
            try bench.registry.add(
                PortDefinition(name: "ra\(getpid())", source: .rings(receive: a, transmit: b)),
                at: 1
            )
            try bench.registry.add(
                PortDefinition(name: "rb\(getpid())", source: .rings(receive: b, transmit: a)),
                at: 2
            )
            let (first, second) = (bench.io.port(1), bench.io.port(2))
            var frames: [UnsafeMutablePointer<pe_mbuf>] = []
            for value in 0..<20 {
                let frame = try #require(pe_mbuf_alloc(bench.environment.packets))
                fill(frame, [UInt8](repeating: UInt8(value), count: 64))
                frames.append(frame)
            }
            #expect(pe_eth_tx_burst(first.ethdev, 0, &frames, 20) == 20)
            var received = frames
            #expect(pe_eth_rx_burst(second.ethdev, 0, &received, 20) == 20)
            #expect(
                received.map { $0.pointee.buf_addr[Int($0.pointee.data_off)] }
                    == (0..<20).map { UInt8($0) }
            )
            pe_mbuf_free_bulk(&received, 20)
        }

        @Test("a frame from a ring whose buffer somebody else holds is copied before it is changed")
        func sharedBuffers() throws {
            let (a, b) = try (ring("sa"), ring("sb"))
            defer { pe_ring_free(a); pe_ring_free(b) }
            let device = try EthernetDevicePort.open(
                PortDefinition(name: "rs\(getpid())", source: .rings(receive: a, transmit: b)),
                environment: TestEnvironment.shared, workerCount: 1)
            defer { EthernetDevicePort.close(device.id) }
            let pair = try Pair()
            let world = pair.world
            try world.addCircuit(port: 5, vlan: 10)
            world.ports.setEthdev(5, ethdev: device.id, mtu: 1500, features: device.features)
            let inner = Frame.host(to: remoteMAC, from: otherMAC)
            let frame = Frame.tagged(10, inner)
            let original = try #require(
                PacketBytes.make(frame, port: 0, pool: world.packets.pointer))
            // Both ends of sharing: a clone, and the buffer that it was made of.
            var shared = [original, try #require(pe_mbuf_clone(original, world.headers.pointer))]
            let witness = try #require(pe_mbuf_clone(original, world.headers.pointer))
            #expect(pe_ring_enqueue_burst(a, &shared, 2) == 2)
            #expect(world.worker.pollOnce() == 2)
            let sent = world.ports.takeSent()
            #expect(sent.map { Array(PacketBytes.of($0).suffix(inner.count)) } == [inner, inner])
            #expect(PacketBytes.of(witness) == frame)
            world.ports.free(sent)
            pe_mbuf_free(witness)
            expectBalanced(world)
        }

        @Test("ports are added and removed while a worker polls")
        func hotplug() throws {
            let bench = try PortBench()
            let worker = TestForwarder(bench.io, sleeps: false)
            defer {
                worker.stop()
                bench.close()
            }
            try bench.registry.add(
                PortDefinition(name: "stay", source: .device("net_null_stay,size=64")),
                at: 0
            )
            for round in 0..<10 {
                try bench.registry.add(
                    PortDefinition(name: "come", source: .device("net_null_come,size=64")),
                    at: 1
                )
                let before = worker.receivedCount
                #expect(eventually { worker.receivedCount > before }, "round \(round)")
                try bench.registry.remove(1)
                #expect(bench.registry.status(1) == nil)
                #expect(bench.registry.status(0)?.isUp == true)
            }
        }

        @Test("beyond DPDK's device limit the error says what to use instead")
        func deviceLimit() throws {
            let bench = try PortBench()
            defer { bench.close() }
            var index: UInt16 = 0
            let error = #expect(throws: PortError.self) {
                while index <= 64 {
                    let text = "net_null_many\(index)"
                    try bench.registry.add(
                        PortDefinition(name: "n\(index)", source: .device(text)),
                        at: index
                    )
                    index += 1
                }
            }
            #expect(error?.kind == .tooMany)
            #expect(error?.remedy.contains("af_packet") == true)
            #expect(index >= 8)
        }

        @Test("a port that cannot be names itself and leaves nothing behind")
        func refusals() throws {
            let bench = try PortBench(capacity: 16)
            defer { bench.close() }
            let null = PortDefinition(name: "n", source: .device("net_null_twice"))
            try bench.registry.add(null, at: 3)
            for (definition, index, kind) in [
                (
                    PortDefinition(name: "x", source: .device("net_nosuch0")), 1,
                    PortError.Kind.noSuchDevice
                ),
                (null, 3, .inUse), (null, 4, .inUse), (null, 16, .tooMany),
                (
                    PortDefinition(name: "x", source: .device("net_memif_bad,role=banana")), 1,
                    .refused
                ),
                (PortDefinition(name: "x", source: .pci("0000:ff:1f.7")), 1, .noSuchDevice),
                (with(null) { $0.mtu = 15_000 }, 1, .badDefinition),
            ] as [(PortDefinition, UInt16, PortError.Kind)] {
                let error = #expect(throws: PortError.self) {
                    try bench.registry.add(definition, at: index)
                }
                #expect(error?.port == definition.name)
                #expect(error?.kind == kind, "\(error.map(String.init(describing:)) ?? "")")
            }
            #expect(bench.registry.allStatus().count == 1)
        }

        @Test("a device that EAL has made is taken as it is, once, and without other arguments")
        func madeByEAL() throws {
            let bench = try PortBench(capacity: 16)
            defer { bench.close() }
            #expect(pe_eth_probe("net_null_made,size=128") == 0)
            func refusal(_ text: String, at index: UInt16) -> PortError? {
                #expect(throws: PortError.self) {
                    try bench.registry.add(PortDefinition(name: "m", source: .device(text)), at: index)
                }
            }
            let arguments = refusal("net_null_made,size=64", at: 5)
            #expect(arguments?.kind == .badDefinition)
            #expect(arguments?.remedy.contains("--vdev") == true)
            try bench.registry.add(PortDefinition(name: "m", source: .device("net_null_made")), at: 5)
            #expect(bench.registry.status(5)?.isUp == true)
            #expect(refusal("net_null_made", at: 6)?.kind == .inUse)
            // Given back, it is made anew like any other.
            try bench.registry.remove(5)
            try bench.registry.add(PortDefinition(name: "m", source: .device("net_null_made,size=64")), at: 5)
        }

        @Test("vhost_user and af_xdp take what the configuration's `device` says")
        func deviceStrings() throws {
            let bench = try PortBench()
            defer { bench.close() }
            let socket = "/tmp/pe-dp-test-\(getpid())-vhost.sock"
            let text = PortDefinition.deviceString(driver: "vhost_user", device: socket, index: 8)
            #expect(text == "net_vhost_pe8,iface=\(socket)")
            try bench.registry.add(
                PortDefinition(name: "vm", source: .device(try #require(text))), at: 8)
            #expect(access(socket, F_OK) == 0)
            #expect(bench.registry.status(8)?.isUp == false)
            let xdp = PortDefinition.deviceString(driver: "af_xdp", device: "eth9", index: 3)
            #expect(xdp == "net_af_xdp_pe3,iface=eth9")
            #expect(PortDefinition.deviceString(driver: "tap", device: "", index: 3) == nil)
        }

        @Test("a driver that knows no MTU is warned about, not refused")
        func memifMTU() throws {
            let events = EventLog()
            let bench = try PortBench(observer: events.append)
            defer { bench.close() }
            let socket = "/tmp/pe-dp-test-\(getpid()).sock"
            var definition = PortDefinition(
                name: "m",
                source: .device("net_memif_pe7,role=server,socket=\(socket),socket-abstract=no")
            )
            definition.mtu = 1600
            try bench.registry.add(definition, at: 7)
            #expect(bench.io.port(7).mtu == 1600)
            #expect(
                events.all.contains {
                    if case .warning(7, let text) = $0 { text.contains("MTU") } else { false }
                }
            )
        }
    }
}

func with<T>(_ value: T, _ change: (inout T) -> Void) -> T {
    var copy = value
    change(&copy)
    return copy
}

func fill(_ frame: UnsafeMutablePointer<pe_mbuf>, _ bytes: [UInt8]) {
    bytes.withUnsafeBytes {
        UnsafeMutableRawPointer(frame.pointee.buf_addr + Int(frame.pointee.data_off))
            .copyMemory(from: $0.baseAddress!, byteCount: $0.count)
    }
    frame.pointee.data_len = UInt16(bytes.count)
    frame.pointee.pkt_len = UInt32(bytes.count)
}

func ring(_ name: String) throws -> OpaquePointer {
    try #require(pe_ring_create("pe_test_\(name)_\(getpid())", 256, 0, 0))
}

func fileBytes(_ path: String) throws -> [UInt8] {
    let fd = open(path, O_RDONLY)
    try #require(fd >= 0)
    defer { close(fd) }
    var bytes = [UInt8](repeating: 0, count: 1 << 16)
    let count = read(fd, &bytes, bytes.count)
    return Array(bytes[..<max(0, count)])
}
