// Ports whose devices and namespaces come and go, hundreds of them, and workers that fall behind.

import CDPDK
import CLinux
import Glibc
import TestSupport
import Testing

@testable import FastPath

extension KernelAndDevicePorts {
    @Suite("Lives of kernel ports", .enabled(if: geteuid() == 0, "needs root: network namespaces"))
    struct PortLifeTests {
        @Test("600 kernel ports attach, work and detach")
        func sixHundred() throws {
            let namespaces = Namespaces("pe-ports-600")
            let space = try namespaces.make("m")
            let pairs = 150
            try Namespaces.ip(
                space,
                (0..<pairs).map { "link add x\($0) type veth peer name y\($0)" }
            )
            let bench = try PortBench()
            let worker = TestForwarder(bench.io)
            let free = pe_pool_available(bench.environment.packets)
            for number in 0..<600 {
                let source: PortDefinition.Source =
                    number < pairs
                    ? .packetSocket(device: "x\(number)")
                    : number < 2 * pairs
                        ? .packetSocket(device: "y\(number - pairs)")
                        : .tap(name: "t\(number)")
                var definition = PortDefinition(name: "p\(number)", source: source)
                definition.namespace = Namespaces.path(space)
                definition.shieldsKernel = number % 10 == 0
                try bench.registry.add(definition, at: UInt16(number))
            }
            #expect(bench.registry.allStatus().values.filter(\.isUp).count == 600)
            // A frame sent into port n comes out of its pair's other end, whose port reads it.
            for number in 0..<pairs {
                var frame = try #require(pe_mbuf_alloc(bench.environment.packets))
                fill(frame, [UInt8](repeating: 0x22, count: 60))
                frame.pointee.port = UInt16(number)
                #expect(pe_ring_enqueue_burst(bench.io.txRing, &frame, 1) == 1)
                pe_doorbell_ring(bench.io.hostDoorbell)
            }
            #expect(
                eventually(10) {
                    let all = bench.registry.allStatus()
                    return (0..<pairs).allSatisfy {
                        (all[UInt16($0)]?.counters[.txFrames] ?? 0) > 0
                            && (all[UInt16($0 + pairs)]?.counters[.rxDelivered] ?? 0) > 0
                    }
                }
            )
            for number in 0..<600 { try bench.registry.remove(UInt16(number)) }
            #expect(bench.registry.allStatus().isEmpty)
            worker.stop()
            bench.close()
            // Other tests borrow from this pool meanwhile.
            #expect(eventually(30) { pe_pool_available(bench.environment.packets) + 64 >= free })
        }

        @Test("a device that is deleted and made again comes back; others are not disturbed")
        func deviceComesBack() throws {
            let hosts = try TwoHosts("gone")
            let events = EventLog()
            let bench = try PortBench(observer: events.append)
            let worker = TestForwarder(bench.io, peers: [(1, 2)])
            defer {
                worker.stop()
                bench.close()
            }
            try bench.registry.add(hosts.definition(1), at: 1)
            try bench.registry.add(hosts.definition(2), at: 2)
            func ping() -> Bool {
                (try? run("ip", "netns", "exec", hosts.a, "ping", "-c", "1", "-W", "1", "10.7.0.2"))
                    != nil
            }
            #expect(ping())
            let address = try run(
                "ip",
                "netns",
                "exec",
                hosts.b,
                "cat",
                "/sys/class/net/eth0/address"
            )
            .filter { !$0.isWhitespace }
            try Namespaces.ip(hosts.middle, ["link del m2"])
            #expect(
                eventually {
                    events.all.contains { if case .down(2, _) = $0 { true } else { false } }
                }
            )
            #expect(bench.registry.status(2)?.isUp == false)
            #expect(!ping())
            #expect(bench.registry.status(1)?.isUp == true)
            // The same address: the neighbour's cache would keep an old one for a minute.
            try Namespaces.ip(
                hosts.middle,
                ["link add m2 type veth peer name eth0 address \(address) netns \(hosts.b)"]
            )
            try Namespaces.ip(hosts.b, ["link set eth0 up", "addr add 10.7.0.2/24 dev eth0"])
            #expect(eventually { events.all.contains(.up(2)) })
            #expect(eventually(10, ping))
            let counters = try #require(bench.registry.status(2)).counters
            #expect(counters[.lost] == 1)
            #expect(counters[.txDropDown] > 0)
        }

        @Test("a device that only goes down is used again when it is up")
        func deviceGoesDown() throws {
            let hosts = try TwoHosts("down")
            let bench = try PortBench()
            let worker = TestForwarder(bench.io, peers: [(1, 2)])
            defer {
                worker.stop()
                bench.close()
            }
            try bench.registry.add(hosts.definition(1), at: 1)
            try bench.registry.add(hosts.definition(2), at: 2)
            for _ in 0..<3 {
                try Namespaces.ip(hosts.middle, ["link set m1 down"])
                usleep(300_000)
                try Namespaces.ip(hosts.middle, ["link set m1 up"])
                #expect(
                    eventually(10) {
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
                            "10.7.0.2"
                        )) != nil
                    }
                )
            }
            #expect(bench.registry.status(1)?.counters[.lost] == 0)
        }

        @Test("a device that is deleted while it is down comes back, too")
        func deviceGoesWhileDown() throws {
            let hosts = try TwoHosts("downgone")
            let events = EventLog()
            let bench = try PortBench(observer: events.append)
            defer { bench.close() }
            try bench.registry.add(hosts.definition(1), at: 1)
            try Namespaces.ip(hosts.middle, ["link set m1 down"])
            // Long enough for the port to find its device there, only down.
            usleep(500_000)
            try Namespaces.ip(hosts.middle, ["link del m1"])
            #expect(
                eventually {
                    events.all.contains { if case .down(1, _) = $0 { true } else { false } }
                }
            )
            try Namespaces.ip(hosts.middle, ["link add m1 type veth peer name n1", "link set n1 up"])
            #expect(eventually { bench.registry.status(1)?.isUp == true })
            #expect(events.all.contains(.up(1)))
        }

        @Test("a TAP comes back in a namespace that was deleted and made again")
        func namespaceComesBack() throws {
            let namespaces = Namespaces("pe-ports-ns")
            let space = try namespaces.make("t")
            let events = EventLog()
            let bench = try PortBench(observer: events.append)
            defer { bench.close() }
            var definition = PortDefinition(name: "t", source: .tap(name: "tap0"))
            definition.namespace = Namespaces.path(space)
            try bench.registry.add(definition, at: 1)
            try namespaces.delete(space)
            #expect(
                eventually {
                    events.all.contains { if case .down(1, _) = $0 { true } else { false } }
                }
            )
            try namespaces.make("t")
            #expect(eventually { events.all.contains(.up(1)) })
            #expect(try run("ip", "-n", space, "link", "show", "tap0").contains("UP"))
        }

        @Test("an exception TAP has a link while its port has one")
        func tapFollowsLink() throws {
            let hosts = try TwoHosts("carrier")
            let bench = try PortBench()
            defer { bench.close() }
            try bench.registry.add(hosts.definition(1), at: 1)
            var definition = PortDefinition(name: "t", source: .tap(name: "tap0"))
            definition.namespace = Namespaces.path(hosts.b)
            definition.exceptionOf = 1
            try bench.registry.add(definition, at: 2)
            func hasCarrier() -> Bool {
                (try? run("ip", "-n", hosts.b, "link", "show", "tap0"))?.contains("LOWER_UP")
                    == true
            }
            #expect(hasCarrier())
            try Namespaces.ip(hosts.a, ["link set eth0 down"])
            #expect(eventually { !hasCarrier() })
            try Namespaces.ip(hosts.a, ["link set eth0 up"])
            #expect(eventually(5, hasCarrier))
        }

        @Test("a device that is not there yet may be waited for")
        func waitsForDevice() throws {
            let namespaces = Namespaces("pe-ports-wait")
            let space = try namespaces.make("m")
            let bench = try PortBench()
            defer { bench.close() }
            var definition = PortDefinition(name: "late", source: .packetSocket(device: "late0"))
            definition.namespace = Namespaces.path(space)
            let error = #expect(throws: PortError.self) {
                try bench.registry.add(definition, at: 1)
            }
            #expect(error?.kind == .noSuchDevice)
            definition.mustExist = false
            try bench.registry.add(definition, at: 1)
            #expect(bench.registry.status(1)?.isUp == false)
            try Namespaces.ip(
                space,
                ["link add late0 type veth peer name late1", "link set late1 up"]
            )
            #expect(eventually { bench.registry.status(1)?.isUp == true })
        }

        @Test("a worker that does nothing costs frames, counted, and no buffer")
        func workerBehind() throws {
            let hosts = try TwoHosts("slow")
            let bench = try PortBench()
            let free = pe_pool_available(bench.environment.packets)
            try bench.registry.add(hosts.definition(1), at: 1)
            let host = try #require(RawHost(hosts.a, "eth0"))
            defer { host.close() }
            for number in 0..<6000 {
                host.send(
                    [2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 0x88, 0xb5]
                        + [UInt8](repeating: UInt8(number & 0xff), count: 50)
                )
            }
            #expect(eventually { pe_ring_free_count(bench.io.rxRing) < 64 })
            let counters = try #require(bench.registry.status(1)).counters
            #expect(isAccounted(counters), "\(counters)")
            // The rest stays in the socket while the ring is full.
            #expect(counters[.rxDelivered] <= UInt64(HostIO.rxRingCapacity))
            let worker = TestForwarder(bench.io)
            #expect(eventually { worker.receivedCount >= 6000 })
            try bench.registry.remove(1)
            worker.stop()
            bench.close()
            // Other tests borrow from this pool meanwhile.
            #expect(eventually(30) { pe_pool_available(bench.environment.packets) + 64 >= free })
        }

        @Test("frames read while the pool is empty are dropped and counted, and the port goes on")
        func poolEmpty() throws {
            let hosts = try TwoHosts("pool")
            let bench = try PortBench()
            try bench.registry.add(hosts.definition(1), at: 1)
            try bench.registry.add(hosts.definition(2), at: 2)
            let host = try #require(RawHost(hosts.a, "eth0"))
            var held: [UnsafeMutablePointer<pe_mbuf>] = []
            while let buffer = pe_mbuf_alloc(bench.environment.packets) { held.append(buffer) }
            // No worker runs: what is read stays out of the pool.
            for _ in 0..<1000 {
                host.send(
                    [2, 2, 2, 2, 2, 2, 4, 4, 4, 4, 4, 4, 0x88, 0xb5]
                        + [UInt8](repeating: 1, count: 50)
                )
            }
            #expect(eventually { bench.registry.status(1)?.counters[.rxFrames] ?? 0 >= 1000 })
            let counters = try #require(bench.registry.status(1)).counters
            pe_mbuf_free_bulk(&held, UInt32(held.count))
            #expect(counters[.rxDropNoBuffer] > 0, "\(counters)")
            #expect(isAccounted(counters), "\(counters)")
            host.close()
            let worker = TestForwarder(bench.io, peers: [(1, 2)])
            #expect(
                eventually(10) {
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
                        "10.7.0.2"
                    )) != nil
                }
            )
            worker.stop()
            bench.close()
        }

        @Test("a port whose device is slow does not make the others wait")
        func slowPort() throws {
            let hosts = try TwoHosts("tbf")
            try run(
                "ip", "netns", "exec", hosts.middle, "tc", "qdisc", "add", "dev", "m2", "root",
                "tbf", "rate", "8kbit", "burst", "2kb", "limit", "3kb")
            let bench = try PortBench()
            defer { bench.close() }
            try bench.registry.add(hosts.definition(1), at: 1)
            try bench.registry.add(hosts.definition(2), at: 2)
            var frames: [UnsafeMutablePointer<pe_mbuf>] = []
            for number in 0..<2048 {
                let frame = try #require(pe_mbuf_alloc(bench.environment.packets))
                fill(frame, [UInt8](repeating: 0x22, count: 100))
                frame.pointee.port = UInt16(1 + number % 2)
                frames.append(frame)
            }
            let before = hostIOSleeps()
            #expect(pe_ring_enqueue_burst(bench.io.txRing, &frames, 2048) == 2048)
            pe_doorbell_ring(bench.io.hostDoorbell)
            #expect(eventually { bench.registry.status(1)?.counters[.txFrames] == 1024 })
            let slow = try #require(bench.registry.status(2)).counters
            #expect(slow[.txDropBusy] > 900, "the device was not slow: the test tests nothing")
            // 32 bursts; waiting in each would be more than 200.
            #expect(hostIOSleeps() - before < 40)
        }

        @Test("idle threads sleep")
        func idleIsCheap() throws {
            let hosts = try TwoHosts("idle")
            let bench = try PortBench()
            let worker = TestForwarder(bench.io, peers: [(1, 2)])
            defer {
                worker.stop()
                bench.close()
            }
            try bench.registry.add(hosts.definition(1), at: 1)
            try bench.registry.add(hosts.definition(2), at: 2)
            usleep(200_000)
            let before = threadSeconds()
            sleep(1)
            let used = threadSeconds().merging(before) { $0 - $1 }
            #expect(used["pe-host-io", default: 1] < 0.02, "\(used)")
            #expect(used["pe-ports", default: 1] < 0.02, "\(used)")
        }
    }
}

/// CPU seconds of each thread of this process, by name.
private func threadSeconds() -> [String: Double] {
    var result: [String: Double] = [:]
    for pid in (try? run("ls", "/proc/\(getpid())/task"))?.split(whereSeparator: \.isNewline) ?? []
    {
        guard let line = readSmallFile("/proc/\(getpid())/task/\(pid)/stat"),
            let end = line.lastIndex(of: ")"), let start = line.firstIndex(of: "(")
        else { continue }
        let fields = line[end...].split(separator: " ")
        guard fields.count > 13, let user = Double(fields[12]), let system = Double(fields[13])
        else { continue }
        result[String(line[line.index(after: start)..<end]), default: 0] += (user + system) / 100
    }
    return result
}

/// How often the host-I/O threads went to sleep.
private func hostIOSleeps() -> Int {
    var total = 0
    for id in (try? run("ls", "/proc/\(getpid())/task"))?.split(whereSeparator: \.isNewline) ?? [] {
        let folder = "/proc/\(getpid())/task/\(id)"
        guard readSmallFile(folder + "/comm") == "pe-host-io",
            let text = try? run("cat", folder + "/status")
        else { continue }
        for line in text.split(whereSeparator: \.isNewline)
        where line.hasPrefix("voluntary_ctxt_switches:") {
            total += line.split(separator: "\t").last.flatMap { Int($0) } ?? 0
        }
    }
    return total
}
